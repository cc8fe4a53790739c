import pytest
import torch

from dfml.nn.generators import GENERATORS, PixelShuffleGenerator, build_generator


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("size", [32, 84, 50])
def test_images_have_the_size_and_lie_in_the_unit_interval(name, size):
    torch.manual_seed(0)
    images = build_generator(name, latent=16, size=size, channels=3)(torch.randn(3, 16))
    assert images.shape == (3, 3, size, size)
    assert 0 <= float(images.min()) < float(images.max()) <= 1


def test_published_size():
    assert (
        sum(p.numel() for p in build_generator("published", latent=256, size=32, channels=3).parameters()) == 2_328_899
    )


def _checkerboard(images: torch.Tensor) -> float:
    """Share of an image's energy at the highest frequency, where PixelShuffle's checkerboard sits."""
    spectrum = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs() ** 2
    half = images.shape[-1] // 2
    return float((spectrum[..., half, :].sum() + spectrum[..., :, half].sum()) / spectrum.sum())


def test_the_binomial_filter_cannot_pass_a_checkerboard():
    torch.manual_seed(0)
    with_filter, without = (PixelShuffleGenerator(latent=16, smooth=s) for s in (True, False))
    codes = torch.randn(16, 16)
    for generator in (with_filter, without):  # filters that drifted apart in training
        torch.nn.init.normal_(generator.up3.weight, 0, 0.3)
    assert _checkerboard(without(codes)) > 0.02
    assert _checkerboard(with_filter(codes)) < 0.1 * _checkerboard(without(codes))
