import pytest
import torch

from dfml.functional.temperature import calibration_error, temperature


def test_the_temperature_of_many_answers_is_the_one_that_they_were_drawn_at():
    g = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4000, 5, generator=g)
    labels = torch.multinomial((logits / 2.5).softmax(-1), 1, generator=g)[:, 0]
    assert temperature(logits, labels) == pytest.approx(2.5, rel=0.06)


def test_a_few_right_answers_make_nothing_certain_and_none_change_nothing():
    logits, labels = torch.eye(4), torch.arange(4)
    assert 0.3 < temperature(logits, labels) < 1
    assert temperature(logits[:0], labels[:0]) == 1


def test_the_calibration_error_is_the_gap_between_how_sure_and_how_often_right():
    sure = torch.tensor([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = torch.tensor([0] * 9 + [1] + [0] * 4 + [1] * 6)
    assert calibration_error(sure, labels) == pytest.approx(10, abs=1e-4)  # half are right, half off by 20 points
    assert calibration_error(sure[:10], labels[:10]) == pytest.approx(0, abs=1e-4)
    assert calibration_error(torch.eye(2), torch.tensor([1, 0])) == 100
