import pytest
import torch

from dfml.nn.generators import (
    FALLS,
    GENERATORS,
    PixelShuffleGenerator,
    _double,
    behind_interpolation,
    build_generator,
)


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


def test_sub_pixels_start_equal_so_that_there_is_no_checkerboard_yet():
    torch.manual_seed(0)
    generator = PixelShuffleGenerator(latent=16)
    for layer in (generator.up1, generator.up2):
        up = torch.nn.functional.pixel_shuffle(layer(torch.randn(2, layer.in_channels, 4, 4)), 2)
        torch.testing.assert_close(up[..., ::2, ::2], up[..., 1::2, 1::2])
        assert up[..., ::2, ::2].std() > 0


def test_doubling_is_a_convolution_with_pixel_shuffle():
    torch.manual_seed(0)
    for bias in (False, True):
        layer = torch.nn.Conv2d(6, 5 * 4, 3, padding=1, bias=bias)
        x = torch.randn(2, 6, 4, 3)
        doubled = _double(layer.weight, layer.bias, x)
        torch.testing.assert_close(doubled, torch.nn.functional.pixel_shuffle(layer(x), 2))


def test_sub_pixel_filters_do_what_interpolation_and_a_convolution_would():
    torch.manual_seed(0)
    weight, x = torch.randn(5, 6, 3, 3), torch.randn(2, 6, 6, 7)
    doubled = torch.nn.functional.pixel_shuffle(
        torch.nn.functional.conv2d(x, behind_interpolation(weight, torch.tensor(FALLS)), padding=1), 2
    )
    large = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    wanted = torch.nn.functional.conv2d(large, weight, padding=1)
    inside = (..., slice(2, -2), slice(2, -2))  # at the edge the one repeats pixels and the other sees none
    torch.testing.assert_close(doubled[inside], wanted[inside], atol=1e-4, rtol=1e-4)


def test_no_filter_of_the_last_doubling_can_draw_a_lattice_where_an_image_is_flat():
    torch.manual_seed(0)
    filters = behind_interpolation(torch.randn(5, 6, 3, 3), torch.tensor(FALLS)).sum((2, 3)).unflatten(0, (5, 4))
    torch.testing.assert_close(filters, filters[:, :1].expand_as(filters))


def test_inside_vmap_every_batchnorm_gets_the_standard_layout():
    """CUDA's BatchNorm cannot ask a tensor of vmap whether it lies channels-last, and fails; a CPU does not ask."""
    generator = build_generator("pixelshuffle", latent=16, size=32, channels=3)
    layouts = []
    for layer in (generator.norm, generator.norm1, generator.norm2):
        layer.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].is_contiguous()))
    parameters = {name: p.expand(2, *p.shape) for name, p in generator.named_parameters()}
    torch.func.vmap(lambda p, codes: torch.func.functional_call(generator, p, (codes,)))(
        parameters, torch.randn(2, 3, 16)
    )
    assert layouts == [True, True, True]
