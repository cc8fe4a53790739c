import pytest
import torch

from dfml.training.answers import NOT_ASKED
from dfml.training.sight import Sight


def test_projections_keep_distances_and_are_always_the_same():
    features = torch.randn(6, 2000, generator=torch.Generator().manual_seed(0))
    shorter = Sight(["a", "b"], 1000, 4).projected("a", features)
    assert torch.equal(shorter, Sight(["a"], 1000, 8).projected("a", features))
    assert not torch.allclose(shorter, Sight(["a"], 1000, 8).projected("b", features))
    ratio = torch.pdist(shorter) / torch.pdist(features)
    torch.testing.assert_close(ratio / ratio.mean(), torch.ones(15), rtol=0.1, atol=0)


def test_features_are_learned_in_deviations_from_their_mean():
    sight, kept = Sight(["a", "b"], 3, 4), 5 + 2 * torch.randn(50, 6)
    sight.measure(kept)
    torch.testing.assert_close(sight.mean, kept.mean(0))
    torch.testing.assert_close(sight.std, kept.std(0, correction=0))
    standardised = (kept - kept.mean(0)) / kept.std(0, correction=0)
    torch.testing.assert_close(sight.error(kept, torch.zeros(50, 6)), standardised.square().mean())


def test_what_was_not_asked_does_not_count():
    sight = Sight(["a", "b"], 1, 4)
    kept = torch.tensor([[1.0, NOT_ASKED], [3.0, 2.0]])
    sight.measure(kept)
    assert sight.mean.tolist() == [2.0, 2.0]
    assert sight.std.tolist() == pytest.approx([1.0, 1e-6])
    sight.std[1] = 1.0
    given = torch.tensor([[0.0, 7.0], [1.0, 2.0]], requires_grad=True)
    error = sight.error(kept, given)
    assert float(error.detach()) == pytest.approx((1 + 0 + 4) / 3)
    error.backward()
    torch.testing.assert_close(given.grad, torch.tensor([[2 / 3, 0.0], [0.0, 4 / 3]]))


def test_a_head_for_nobody_says_nothing():
    sight = Sight([], 3, 4)
    assert sight(torch.rand(2, 4)).shape == (2, 0)
    assert not list(sight.parameters())
