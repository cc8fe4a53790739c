import math

import pytest

from dfml.functional.schedules import cosine


def test_it_falls_from_one_to_zero_as_a_cosine():
    assert [cosine(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert cosine(0.25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_in_the_warm_up_it_rises_from_a_tenth():
    assert cosine(0.0, warm_up=0.05) == pytest.approx(0.1)
    assert cosine(0.02, warm_up=0.05) == pytest.approx(0.5 * cosine(0.02))
    assert cosine(0.3, warm_up=0.05) == cosine(0.3)
