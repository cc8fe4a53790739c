"""Pictures drawn from nothing: overlapping shapes whose surfaces look like natural noise."""

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.functional.noise import natural_noise

SHAPES = 16  # of an image, the later ones in front
SMALLEST, LARGEST = 0.15, 0.9  # half a shape's length, as a share of half the image
SOFT = 0.5  # pixels over which an edge fades


def dead_leaves(n: int, channels: int, size: int, generator: torch.Generator) -> Float[Tensor, "n c size size"]:
    """Ellipses, rectangles and striped discs that hide each other, as things in photographs do.

    Lee, Mumford, Huang, IJCV 2001, "Occlusion models for natural images"; of the ways to draw that Baradad et al.
    (NeurIPS 2021, https://arxiv.org/abs/2106.05963) compare, one of the best to learn from. Sizes follow the power law
    that makes such images look alike at every scale; surfaces are `natural_noise` of a colour of their own.

    Args:
        n: number of images.
        channels: of each image.
        size: height and width.
        generator: a CPU generator.

    Returns:
        Values in [0, 1], on the CPU.
    """

    def uniform(low: float, high: float) -> Float[Tensor, "n 1 1"]:
        return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

    places = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = places[:, None], places[None, :]
    images = grain = natural_noise(n, channels, size, generator)
    for _ in range(SHAPES):
        length = (SMALLEST**-2 + uniform(0.0, 1.0) * (LARGEST**-2 - SMALLEST**-2)) ** -0.5  # density as length^-3
        breadth, angle = length * uniform(0.3, 1.0), uniform(0.0, torch.pi)
        across, down = x - uniform(-1.0, 1.0), y - uniform(-1.0, 1.0)
        u = (across * angle.cos() + down * angle.sin()) / length
        v = (down * angle.cos() - across * angle.sin()) / breadth
        radius = torch.where(uniform(0.0, 1.0) < 0.5, torch.hypot(u, v), torch.maximum(u.abs(), v.abs()))
        inside = ((1 - radius) * breadth * size / 2 / SOFT).clamp(0, 1)
        stripes = torch.where(uniform(0.0, 1.0) < 0.3, 0.25 * (uniform(4.0, 16.0) * u).sin(), torch.zeros(n, 1, 1))
        shading = torch.where(uniform(0.0, 1.0) < 0.5, uniform(-0.3, 0.3) * v, torch.zeros(n, 1, 1))
        contrast, colour = uniform(0.0, 1.0)[:, None], torch.rand(n, channels, 1, 1, generator=generator)
        moved = torch.randint(size, (2,), generator=generator).tolist()
        noise = grain[torch.randperm(n, generator=generator)].roll(moved, (2, 3))
        surface = colour + contrast * (noise - noise.mean((2, 3), keepdim=True)) + (stripes + shading)[:, None]
        images = images + inside[:, None] * (surface.clamp(0, 1) - images)
    return images.clamp(0, 1)
