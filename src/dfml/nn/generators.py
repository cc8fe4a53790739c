"""Generators: latent codes to images in [0, 1]. BatchNorm always uses the batch's statistics and keeps none."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.nn.layout import channels_last, for_batch_norm

GeneratorName = Literal["pixelshuffle", "published"]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


class PublishedGenerator(nn.Module):
    """The generator of the published codes: linear, then two nearest-neighbour upsamplings with wide convolutions.

    Args:
        latent: length of the code.
        size: height and width of the images.
        channels: channels of the images.
    """

    def __init__(self, *, latent: int = 256, size: int = 32, channels: int = 3):
        super().__init__()
        self.size, self.start = size, -(-size // 4)
        self.linear = nn.Linear(latent, 128 * self.start**2)
        self.layers = nn.Sequential(
            _norm(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, padding=1, bias=False),
            _norm(128),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1, bias=False),
            _norm(64),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, codes: Float[Tensor, "n latent"]) -> Float[Tensor, "n c size size"]:
        """Images in [0, 1]."""
        x = channels_last(self.linear(codes).view(-1, 128, self.start, self.start))
        return self.layers(x)[..., : self.size, : self.size]


# Where each tap of a 3 x 3 filter at twice the resolution falls among three pixels, [row or column of the pair, tap,
# pixel], by bilinear interpolation: a tap a quarter of a pixel from one pixel is three quarters that one.
FALLS = (
    ((0.75, 0.25, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25)),
    ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25), (0.0, 0.25, 0.75)),
)


class PixelShuffleGenerator(nn.Module):
    """A cheap generator: wide convolutions run below full resolution and PixelShuffle does the upsampling.

    Against PixelShuffle's checkerboard, sub-pixel filters start equal (ICNR, Aitken et al. 2017), those of the last
    doubling are one filter behind bilinear interpolation (Odena et al. 2016, "Deconvolution and checkerboard
    artifacts"), and a narrow convolution at full resolution comes last. (A fixed low-pass filter in its place, or
    interpolation before every doubling, also takes out the fine detail that a teacher's first BatchNorm layers expect:
    worse images.)

    Args:
        latent: length of the code.
        size: height and width of the images.
        channels: channels of the images.
    """

    def __init__(self, *, latent: int = 256, size: int = 32, channels: int = 3):
        super().__init__()
        self.size, self.start = size, -(-size // 8)
        self.linear = nn.Linear(latent, 128 * self.start**2)
        self.norm = _norm(128)
        self.up1, self.norm1 = nn.Conv2d(128, 64 * 4, 3, padding=1, bias=False), _norm(64)
        self.up2, self.norm2 = nn.Conv2d(64, 32 * 4, 3, padding=1, bias=False), _norm(32)
        self.up3 = nn.Conv2d(32, 12, 3, padding=1)
        self.last = nn.Conv2d(12, channels, 3, padding=1)
        self.falls: Tensor
        self.register_buffer("falls", torch.tensor(FALLS), persistent=False)
        for layer in (self.up1, self.up2):
            with torch.no_grad():
                layer.weight.copy_(layer.weight[::4].repeat_interleave(4, 0))

    def forward(self, codes: Float[Tensor, "n latent"]) -> Float[Tensor, "n c size size"]:
        """Images in [0, 1]."""
        x = channels_last(self.linear(codes).view(-1, 128, self.start, self.start))
        x = F.leaky_relu(self.norm1(_double(self.up1.weight, None, self.norm(x))), 0.2)
        x = F.leaky_relu(self.norm2(_double(self.up2.weight, None, x)), 0.2)
        bias = self.up3.bias.repeat_interleave(4)  # type: ignore[union-attr]
        x = F.leaky_relu(_double(behind_interpolation(self.up3.weight, self.falls), bias, x), 0.2)
        return self.last(x).sigmoid()[..., : self.size, : self.size]


def behind_interpolation(weight: Float[Tensor, "o i 3 3"], falls: Float[Tensor, "2 3 3"]) -> Float[Tensor, "o4 i 3 3"]:
    """Sub-pixel filters that do what doubling an image by bilinear interpolation and then ``weight`` would.

    Four filters for each of ``weight``, in the order of `torch.nn.functional.pixel_shuffle`. Where an image is flat all
    four give the same, so no lattice can appear there; and nothing is computed at the higher resolution.

    Args:
        weight: filters at twice the resolution.
        falls: see `FALLS`.
    """
    return torch.einsum("oiab,pay,qbx->opqiyx", weight, falls, falls).flatten(0, 2)


def _double(weight: Float[Tensor, "o4 i 3 3"], bias: Tensor | None, x: Float[Tensor, "n i h w"]) -> Tensor:
    """``F.pixel_shuffle(F.conv2d(x, weight, bias), 2)``, whose copies are several times faster on a CPU in
    channels-last layout.

    Output channels are taken by place, not by colour: the two neighbours of a row are then one run of memory.
    """

    def by_place(p: Tensor) -> Tensor:
        return p.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)

    doubled = F.conv2d(x, by_place(weight), None if bias is None else by_place(bias), padding=1)
    places = doubled.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))  # [n, h, w, 2, 2, o]
    return for_batch_norm(places.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2))


GENERATORS: dict[str, type[nn.Module]] = {"pixelshuffle": PixelShuffleGenerator, "published": PublishedGenerator}


def build_generator(name: GeneratorName, *, latent: int, size: int, channels: int) -> nn.Module:
    """A randomly initialised generator in channels-last layout (faster on CPUs and GPUs alike)."""
    generator = GENERATORS[name](latent=latent, size=size, channels=channels)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
