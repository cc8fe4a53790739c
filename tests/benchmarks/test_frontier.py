import pytest
import torch

import frontier
from dfml.evaluation.score import Score
from dfml.zoo import Zoo
from student import PER_VISIT, recover_for


def taught(seconds: float, offset: float, shift: float = 0.0) -> tuple:
    """Scores whose episodes go up and down by ``shift`` around 40 + ``offset``."""
    wave = torch.tensor([1.0, -1.0]).repeat(50) * shift
    score = Score.of(40 + offset + wave, seconds=1.0, norm="running", manifest=None)
    return seconds, 400, {1: [score], 5: [score]}


@pytest.mark.parametrize(("offset", "shift", "passes"), [(-0.4, 0.0, True), (-0.6, 0.0, False), (-0.4, 2.0, False)])
def test_a_claim_passes_where_the_lower_bound_is_at_most_half_a_point_below(offset, shift, passes):
    line = frontier.line("published, 8 times as long", taught(5.0, offset, shift), taught(40.0, 0.0))
    assert line["quality"]["passes"] is passes
    assert line["quality"]["1-shot"]["difference"] == pytest.approx(offset, abs=0.01)
    assert (line["ratio"], line["images_a_second"]) == (8.0, {"ours": 80.0, "other": 10.0})


def test_with_several_seeds_the_interval_is_that_of_the_seeds():
    offsets = (0.0, 1.0, 2.0)
    mine, theirs = [taught(1.0, offset)[2][1][0] for offset in offsets], [taught(1.0, 0.0)[2][1][0]] * 3
    gain, half = frontier.difference(mine, theirs)
    assert (gain, half) == (pytest.approx(1.0, abs=1e-4), pytest.approx(4.30 / 3**0.5, abs=1e-4))


def test_recovery_for_a_time_visits_at_least_once_and_keeps_every_image():
    class Shown:
        def __init__(self, labels):
            self.images, self.labels = torch.rand(len(labels), 3, 16, 16), labels

    class Recovery:
        calls = 0

        def init(self, canvas, rng):
            return None

        def recover(self, state, visits, *, rng):
            self.calls += 1
            return [Shown(visit.labels) for visit in visits]

    recovery, zoo = Recovery(), Zoo.open("glyphs")
    zoo.ids += zoo.ids[:4]  # the student has twenty teachers
    bank, visits, _ = recover_for(0.0, recovery, zoo)
    assert recovery.calls == 1
    assert (visits, len(bank)) == (PER_VISIT, 100 * PER_VISIT)
