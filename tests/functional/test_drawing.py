import torch

from dfml.functional.drawing import dead_leaves


def test_drawn_images_are_images_that_differ_and_can_be_drawn_again():
    for channels, size in ((3, 32), (1, 28), (3, 65)):
        images = dead_leaves(6, channels, size, torch.Generator().manual_seed(0))
        assert images.shape == (6, channels, size, size)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.flatten(1).std(1).min() > 0.02
        assert (images[0] - images[1]).abs().mean() > 0.05
        assert torch.equal(images, dead_leaves(6, channels, size, torch.Generator().manual_seed(0)))


def test_they_have_edges_where_noise_has_none():
    images = dead_leaves(32, 1, 64, torch.Generator().manual_seed(0))
    steps = images.diff(dim=3).abs().flatten()
    kurtosis = (steps - steps.mean()).pow(4).mean() / steps.var().pow(2)
    assert kurtosis > 6  # a Gaussian has 3
