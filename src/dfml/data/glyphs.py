"""*glyphs*, the embedded set: characters of many scripts, drawn 32x32 in colour, with distortion and noise.

The masks are shipped (``glyph_masks.npz``, rendered by ``tools/render_glyphs.py``), so that rasters do not change
with library versions; characters that look the same (Latin A, Greek Alpha, Cyrillic A) are one class. Which class
belongs to which split is part of the file and does not depend on the seed. Pictures are computed in double precision
and only then rounded to bytes, so that processors that round differently draw the same bytes.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dfml.data.image_set import DataSplits, ImageSet
from dfml.errors import InputError
from dfml.randomness import Rng

SIZE = 32


@cache
def _masks() -> tuple[list[Tensor], tuple[str, ...], list[int]]:
    """Of each class the masks of its faces (float64 in [0, 1], [m, 1, 32, 32]), the names, the split sizes."""
    with files("dfml.data").joinpath("glyph_masks.npz").open("rb") as stream, np.load(stream) as file:
        masks = torch.from_numpy(file["masks"]).double()[:, None] / 15
        classes = torch.from_numpy(file["classes"].astype(np.int64))
        names = tuple(str(name) for name in file["class_names"])
        return [masks[classes == c] for c in range(len(names))], names, file["split_sizes"].tolist()


def _uniform(n: int, low: float, high: float, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=generator, dtype=torch.float64) * (high - low) + low


def _affine(n: int, generator: torch.Generator) -> Float[Tensor, "n 2 3"]:
    """From a pixel of the picture to a point of the mask: turned +-20 degrees, sheared, scaled and shifted."""
    angle = _uniform(n, -20.0, 20.0, generator) * math.pi / 180
    shear = _uniform(n, -0.25, 0.25, generator)
    scale = _uniform(n, 1.05, 1.6, generator)  # the character's longer side is 18 to 27 of the 32 pixels
    aspect = _uniform(n, -0.15, 0.15, generator).exp()
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    skew = torch.eye(2, dtype=torch.float64).repeat(n, 1, 1)
    skew[:, 0, 1] = shear
    matrix = turn @ skew * torch.stack([scale * aspect, scale / aspect], 1)[:, None]
    shift = _uniform(n, -0.25, 0.25, generator, 2, 1)
    return torch.cat([matrix, matrix @ shift], 2)


def _texture(n: int, generator: torch.Generator) -> Float[Tensor, "n 3 size size"]:
    """Smooth coloured clouds with values in about -1..1: noise of 2, 4 and 8 cells, summed."""
    clouds = _uniform(n, -0.5, 0.5, generator, 3, 8, 8)
    for cells in (2, 4):
        noise = _uniform(n, -0.5, 0.5, generator, 3, cells, cells)
        clouds += F.interpolate(noise, (8, 8), mode="bilinear", align_corners=False)
    return F.interpolate(clouds, (SIZE, SIZE), mode="bilinear", align_corners=False)


def _draw(masks: Float[Tensor, "faces 1 size size"], n: int, generator: torch.Generator) -> UInt8[Tensor, "n 3 32 32"]:
    """``n`` pictures of one character: a random face, affine distortion, stroke width, colours, texture, noise."""
    ink = masks[torch.randint(len(masks), (n,), generator=generator)]
    grid = F.affine_grid(_affine(n, generator), [n, 1, SIZE, SIZE], align_corners=False)
    ink = F.grid_sample(ink, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    thicker = F.max_pool2d(ink, 3, stride=1, padding=1)
    ink = ink + _uniform(n, 0.0, 0.6, generator, 1, 1, 1) * (thicker - ink)
    dark, light = _uniform(n, 0.0, 0.45, generator, 3, 1, 1), _uniform(n, 0.55, 1.0, generator, 3, 1, 1)
    swap = _uniform(n, 0.0, 1.0, generator, 1, 1, 1) < 0.5
    front, back = torch.where(swap, dark, light), torch.where(swap, light, dark)
    front = front + 0.15 * _texture(n, generator)
    back = back + _uniform(n, 0.0, 0.35, generator, 1, 1, 1) * _texture(n, generator)
    noise = _uniform(n, -1.0, 1.0, generator, 3, SIZE, SIZE) * _uniform(n, 0.0, 0.14, generator, 1, 1, 1)
    picture = back + ink * (front - back) + noise
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def characters(n: int, generator: torch.Generator) -> UInt8[Tensor, "n 3 32 32"]:
    """Pictures of random characters, of those that are no others' validation or test classes."""
    masks, _, sizes = _masks()
    of_each = torch.randint(sizes[0], (n,), generator=generator).bincount(minlength=sizes[0]).tolist()
    drawn = torch.cat([_draw(masks[c], count, generator) for c, count in enumerate(of_each) if count])
    return drawn[torch.randperm(n, generator=generator)]


def glyphs(seed: int = 0, per_class: Sequence[int] = (200, 100, 100)) -> DataSplits:
    """The glyphs, 80 / 20 / 28 classes; equal arguments give equal images (the last few are kept in memory).

    Args:
        seed: seed of the samples; the classes of the splits are the same for every seed.
        per_class: images per class of train, val and test.

    Raises:
        InputError: not three counts, or a count below 1.
    """
    if len(per_class) != 3 or min(per_class) < 1:
        raise InputError(
            f"{per_class} glyphs per class", "three counts of at least 1: train, val, test", "correct them"
        )
    train, val, test = per_class
    return _glyphs(seed, (train, val, test))


@lru_cache(maxsize=4)
def _glyphs(seed: int, per_class: tuple[int, int, int]) -> DataSplits:
    masks, names, sizes = _masks()
    sets, first = [], 0
    for split, size, n in zip(("train", "val", "test"), sizes, per_class, strict=True):
        own = range(first, first + size)
        images = [_draw(masks[c], n, Rng(seed).generator("glyphs", names[c])) for c in own]
        labels = torch.arange(size).repeat_interleave(n)
        sets.append(ImageSet(f"glyphs/{split}", torch.cat(images), labels, names[first : first + size]))
        first += size
    return DataSplits("glyphs", *sets)
