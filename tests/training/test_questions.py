import math

import pytest

from dfml.errors import NoAnswer
from dfml.training.questions import Questions
from dfml.zoo import Tally


def test_what_is_asked_inside_is_counted_by_teacher():
    tally, questions = Tally(), Questions(None, 10, free={"open"})
    tally.add("a", 3)
    with questions.counting(["a", "b", "open"], tally):
        tally.add("a", 4)
        tally.add("open", 40)
    assert questions.asked == {"a": 4, "b": 0, "open": 40}
    assert [questions.left(name) for name in ("a", "b", "c", "open")] == [6, 10, 10, math.inf]
    again = Questions(None, 10)
    again.load_state_dict(questions.state_dict())
    assert again.left("a") == 6


def test_of_a_step_that_is_taken_anew_nothing_is_counted():
    tally, questions = Tally(), Questions(None, 10)

    def asked_in_vain():
        with questions.counting(["a"], tally):
            tally.add("a", 4)
            raise NoAnswer("b", "away", "wait")

    with pytest.raises(NoAnswer):
        asked_in_vain()
    assert questions.total == 0
