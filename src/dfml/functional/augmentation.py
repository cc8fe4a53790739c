"""Random shifts and flips, per sample and differentiable; distortions; mixtures of two images."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dfml.compute.devices import send


def shift_and_flip(
    images: Float[Tensor, "n c h w"],
    generator: torch.Generator,
    *,
    shift: int = 4,
    flip: bool = True,
    per_sample: bool = True,
) -> Float[Tensor, "n c h w"]:
    """Pad by ``shift`` pixels, crop back at a random place, and mirror half of the images if ``flip``.

    Edges are repeated: with zeros, recovered images grow a dark frame of the padding's width.

    Args:
        images: the batch; gradients pass through.
        generator: a CPU generator.
        shift: largest shift in pixels.
        flip: mirror left-right with probability one half.
        per_sample: a draw of its own for every image; False takes one draw for the batch, as the published code does.
    """
    n, c, h, w = images.shape
    draws = n if per_sample else 1
    moves = torch.randint(0, 2 * shift + 1, (2, draws, 1), generator=generator)
    mirrors = torch.rand(1, draws, 1, generator=generator) < 0.5 if flip else torch.zeros(1, draws, 1).bool()
    dy, dx, mirror = send(torch.cat([moves, mirrors]), images.device)
    rows = (torch.arange(h, device=images.device) + dy - shift).clamp(0, h - 1).expand(n, h)
    columns = torch.arange(w, device=images.device)
    columns = torch.where(mirror > 0, w - 1 - columns, columns)
    columns = (columns + dx - shift).clamp(0, w - 1).expand(n, w)
    index = rows[:, :, None] * w + columns[:, None, :]
    return images.flatten(2).gather(2, index.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


def distort_images(
    images: Float[Tensor, "n c h w"], generator: torch.Generator, *, strength: float = 1.0
) -> Float[Tensor, "n c h w"]:
    """Zoom, turn and move each image, and change its contrast, brightness and colour cast.

    At strength 1: zoom by 0.70 to 1.57, turns of 0.4 radians and moves of 8 % of the side either way, reflected at the
    edges; contrast times 0.61 to 1.49, brightness plus or minus 0.15, each channel plus or minus 0.08.

    Args:
        images: in [0, 1], as the result is.
        generator: a CPU generator.
        strength: widens or narrows every range; 0 changes nothing.
    """
    n, channels = images.shape[:2]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=generator)) * strength

    scale, turn, moves = uniform(-0.45, 0.35).exp(), uniform(-0.4, 0.4), uniform(-0.15, 0.15, 2)
    cos, sin = scale * turn.cos(), scale * turn.sin()
    maps = torch.stack([torch.stack([cos, -sin, moves[:, 0]], -1), torch.stack([sin, cos, moves[:, 1]], -1)], 1)
    grid = F.affine_grid(send(maps, images.device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness = uniform(-0.5, 0.4, 1, 1, 1).exp(), uniform(-0.15, 0.15, 1, 1, 1)
    cast, mean = uniform(-0.08, 0.08, channels, 1, 1), moved.mean((2, 3), keepdim=True)
    contrast, brightness = (send(drawn, images.device) for drawn in (contrast, brightness + cast))
    return ((moved - mean) * contrast + mean + brightness).clamp(0, 1)


def arcsine_share(generator: torch.Generator) -> float:
    """One draw of Beta(1/2, 1/2): sin^2(pi u / 2) of a uniform u, by the inverse of its distribution function."""
    return float((torch.rand((), generator=generator, dtype=torch.float64) * torch.pi / 2).sin() ** 2)


def mix_images(
    images: Float[Tensor, "n c h w"], generator: torch.Generator, *, share: float
) -> Float[Tensor, "n c h w"]:
    """Mix a ``share`` of the images with another of the batch, half of them by mixup, half by cutmix.

    Mixup (Zhang et al. 2018) averages two images with a weight of 0.3 to 0.7; cutmix (Yun et al. 2019) pastes a
    rectangle of a quarter to three quarters of each side. No labels are mixed: teachers answer on the result.

    Args:
        images: the batch.
        generator: a CPU generator.
        share: probability of an image to be mixed.
    """
    n, _, h, w = images.shape
    partner = images[send(torch.randperm(n, generator=generator), images.device)]
    mixed, pasted = torch.rand(2, n, generator=generator) < torch.tensor([[share], [0.5]])
    weight = 0.3 + 0.4 * torch.rand(n, 1, 1, 1, generator=generator)
    height, width, top, left = torch.rand(4, n, 1, generator=generator)
    height, width = 0.25 + 0.5 * height, 0.25 + 0.5 * width
    rows, columns = (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w
    inside_rows = (rows >= top * (1 - height)) & (rows < top * (1 - height) + height)
    inside_columns = (columns >= left * (1 - width)) & (columns < left * (1 - width) + width)
    rectangle = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    taken = torch.where(pasted[:, None, None, None], rectangle.float(), weight) * mixed[:, None, None, None]
    return torch.lerp(images, partner, send(taken, images.device))
