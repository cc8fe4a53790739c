import math

import pytest
import torch

from dfml.functional.intervals import student_t, t_interval, wilson_interval


@pytest.mark.parametrize(
    ("freedom", "printed"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_it_reaches_as_far_as_printed_tables_say(freedom, printed):
    assert student_t(freedom) == pytest.approx(printed, abs=5e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_density_within_it_integrates_to_the_level(freedom, level):
    t = torch.linspace(0, student_t(freedom, level), 100_001, dtype=torch.float64)
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    density = constant * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    assert 2 * float(torch.trapezoid(density, t)) == pytest.approx(level, abs=1e-6)


def test_interval_of_a_mean_of_three():
    mean, half = t_interval([1.0, 2.0, 6.0])
    assert mean == 3.0
    assert half == pytest.approx(4.3027 * math.sqrt((4 + 1 + 9) / 2) / math.sqrt(3), abs=1e-3)


def test_the_interval_of_a_share_holds_at_its_ends():
    assert wilson_interval(8, 10) == pytest.approx((80.0, 49.02, 94.33), abs=0.01)  # R: prop.test(8, 10, correct=FALSE)
    assert wilson_interval(10, 10)[1:] == pytest.approx((72.25, 100.0), abs=0.01)
