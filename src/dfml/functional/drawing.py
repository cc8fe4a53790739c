"""Pictures drawn from nothing: overlapping shapes, or one thing before a ground; surfaces look like natural noise."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dfml.functional.noise import natural_noise

SHAPES = 16  # of an image, the later ones in front
SMALLEST, LARGEST = 0.15, 0.9  # half a shape's length, as a share of half the image
SOFT = 0.5  # pixels over which an edge fades
PARTS = (6, 8, 6)  # of a thing at most, and how many cells their edges are ragged by


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


def things(n: int, channels: int, size: int, generator: torch.Generator) -> Float[Tensor, "n c size size"]:
    """One thing of a few parts before a ground, as photographs of things are.

    The body is a blob with a ragged edge, larger or smaller, near the middle; most parts are spots on it. Surfaces are
    smooth clouds and natural noise on a colour near grey: strong colours are rare in photographs.

    Args:
        n: number of images.
        channels: of each image.
        size: height and width.
        generator: a CPU generator.

    Returns:
        Values in [0, 1], on the CPU.
    """

    def uniform(low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n 1 1 1"]:
        return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)

    def smooth(values: Float[Tensor, "n k cells cells"]) -> Float[Tensor, "n k size size"]:
        return F.interpolate(values, (size, size), mode="bicubic", align_corners=False)

    def surface() -> Float[Tensor, "n c size size"]:
        colour = uniform() + 0.15 * torch.randn(n, channels, 1, 1, generator=generator)
        grain = natural_noise(n, channels, size, generator)
        grains = uniform() * (grain - grain.mean((2, 3), keepdim=True))
        cells = [torch.rand(n, channels, k, k, generator=generator) - 0.5 for k in (2, 4, 8)]
        clouds = smooth(cells[0]) + smooth(cells[1]) + smooth(cells[2])
        return colour.clamp(0, 1) + 0.35 * uniform() * clouds + grains

    def blob(cells: int) -> Float[Tensor, "n 1 size size"]:
        ragged = smooth(torch.randn(n, 1, cells, cells, generator=generator))
        across, down = x - uniform(-0.35, 0.35), y - uniform(-0.35, 0.35)
        width = uniform(0.5, 1.4)
        height = width * uniform(-0.7, 0.7).exp()
        return (4 * (ragged + 1.6 - 2.4 * ((across / width) ** 2 + (down / height) ** 2))).sigmoid()

    places = torch.linspace(-1, 1, size)
    y, x = places[:, None], places[None, :]
    images, body = surface(), blob(4)
    images = images + body * (surface() - images)
    for cells in PARTS:
        inside = torch.where(uniform() < 0.7, body, torch.ones(()))
        there = (uniform() < 0.6).float()
        images = images + there * inside * blob(cells) * (surface() - images)
    speckled = 0.05 * uniform() * torch.randn(n, channels, size, size, generator=generator)
    return (images + speckled).clamp(0, 1)
