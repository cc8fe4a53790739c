"""Noise that looks like images from afar."""

import torch
from jaxtyping import Float
from torch import Tensor

# Standard deviations: within an image, of what all channels share and of each channel's own; of a channel's mean.
GREY, COLOUR, CAST = 0.18, 0.08, 0.2


def natural_noise(n: int, channels: int, size: int, generator: torch.Generator) -> Float[Tensor, "n c size size"]:
    """Noise with the spectrum of natural images: amplitudes fall as one over frequency, and channels mostly agree.

    Field, JOSA A 1987, "Relations between the statistics of natural images and the response properties of cortical
    cells". https://doi.org/10.1364/JOSAA.4.002379

    Args:
        n: number of images.
        channels: of each image.
        size: height and width.
        generator: a CPU generator.

    Returns:
        Values in [0, 1], on the CPU.
    """
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size))
    frequency[0, 0] = torch.inf  # the mean is drawn for itself
    white = torch.randn(n, 1 + channels, size, size, generator=generator)
    noise = torch.fft.ifft2(torch.fft.fft2(white) / frequency).real
    noise = noise / noise.std((2, 3), keepdim=True)
    means = 0.5 + CAST * torch.randn(n, channels, 1, 1, generator=generator)
    return (means + GREY * noise[:, :1] + COLOUR * noise[:, 1:]).clamp(0, 1)
