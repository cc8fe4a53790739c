import pytest
import torch

from dfml.functional.rounding import completed, rounded

SAID = torch.tensor([[0.704, 0.2, 0.093, 0.003], [0.25, 0.25, 0.25, 0.25]])


def test_what_an_api_tells_is_rounded_and_the_largest_alone():
    torch.testing.assert_close(rounded(SAID, decimals=2)[0], torch.tensor([0.7, 0.2, 0.09, 0.0]).double())
    torch.testing.assert_close(rounded(SAID, top=2)[0], torch.tensor([0.704, 0.2, 0, 0]).double())
    torch.testing.assert_close(rounded(SAID).float(), SAID)


def test_what_is_missing_goes_to_those_of_which_nothing_was_said():
    said = torch.tensor([[0.3, 0.0, 0.6, 0.0]])
    torch.testing.assert_close(completed(said), torch.tensor([[0.3, 0.05, 0.6, 0.05]]))
    torch.testing.assert_close(completed(torch.tensor([[0.6, 0.6]])), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(completed(torch.zeros(1, 1000)), torch.full((1, 1000), 1e-3))


@pytest.mark.parametrize("classes", [4, 1000])
def test_what_was_rounded_to_nothing_is_half_of_the_last_decimal_together(classes):
    sure = torch.zeros(1, classes)
    sure[0, 1] = 1.0
    whole = completed(sure, decimals=2)
    assert float(whole.min()) > 0
    assert 1 - float(whole[0, 1]) == pytest.approx(0.005, rel=0.01)
    assert float(completed(sure).min()) == 0
