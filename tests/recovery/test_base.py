"""What is said of recovered images."""

import pytest
import torch

from dfml.recovery import Recovered, mean_terms


def test_the_spread_is_the_deviation_of_a_pixel_within_a_class():
    images, labels = torch.rand(9, 3, 4, 4), torch.tensor([2, 0, 2, 0, 2, 5, 0, 0, 2])
    classes = [images[labels == label] for label in (0, 2)]  # of the third there is one image
    variance = torch.cat([each.var(0).mean().repeat(len(each)) for each in classes]).mean()
    told = mean_terms([Recovered(images, labels, {"class": 1.0}), Recovered(images, labels, {"class": 3.0, "bn": 2.0})])
    assert told == {"bn": 2.0, "class": 2.0, "spread": pytest.approx(float(variance.sqrt()), rel=1e-5)}
    assert mean_terms([Recovered(images, torch.arange(9), {})]) == {}
    assert (
        mean_terms([Recovered(images[:1].expand(4, -1, -1, -1), torch.zeros(4, dtype=torch.long), {})])["spread"] == 0
    )
    assert mean_terms([]) == {}
