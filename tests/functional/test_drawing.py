import pytest
import torch

from dfml.functional.drawing import dead_leaves, things


@pytest.mark.parametrize("draw", [dead_leaves, things])
def test_drawn_images_are_images_that_differ_and_can_be_drawn_again(draw):
    for channels, size in ((3, 32), (1, 28), (3, 65)):
        images = draw(6, channels, size, torch.Generator().manual_seed(0))
        assert images.shape == (6, channels, size, size)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.flatten(1).std(1).min() > 0.02
        assert (images[0] - images[1]).abs().mean() > 0.05
        assert torch.equal(images, draw(6, channels, size, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("draw", [dead_leaves, things])
def test_they_have_edges_where_noise_has_none(draw):
    images = draw(32, 1, 64, torch.Generator().manual_seed(0))
    steps = images.diff(dim=3).abs().flatten()
    kurtosis = (steps - steps.mean()).pow(4).mean() / steps.var().pow(2)
    assert kurtosis > 6  # a Gaussian has 3


def test_a_thing_is_in_the_middle():
    images = things(200, 3, 32, torch.Generator().manual_seed(0))
    unlike = (images - images[:, :, :3, :3].mean((2, 3), keepdim=True)).abs().mean((0, 1))  # the corner's ground
    assert unlike[12:20, 12:20].mean() > 1.2 * unlike[-3:, :3].mean()
