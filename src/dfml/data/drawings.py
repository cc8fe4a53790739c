"""Pictures that are drawn from nothing, of any size: leaves, characters, or both."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data.glyphs import characters
from dfml.functional.drawing import dead_leaves
from dfml.nn import InputSpec, as_floats

Drawing = Literal["leaves", "characters", "both"]


def draw(drawing: Drawing, n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """So many pictures in [0, 1], on the CPU.

    Args:
        drawing: overlapping shapes (`dfml.functional.drawing`), characters of many scripts (`dfml.data.glyphs`), or
            half of each, in any order.
        n: pictures.
        canvas: their channels and size.
        generator: a CPU generator.
    """
    if drawing != "both":
        return _DRAWINGS[drawing](n, canvas, generator)
    parts = [each(count, canvas, generator) for each, count in ((_leaves, n // 2), (_characters, n - n // 2)) if count]
    return torch.cat(parts)[torch.randperm(n, generator=generator)]


def _leaves(n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    return dead_leaves(n, canvas.channels, canvas.size, generator)


def _characters(n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    return canvas.fit(as_floats(characters(n, generator)))


_DRAWINGS: dict[str, Callable[[int, InputSpec, torch.Generator], Tensor]] = {
    "leaves": _leaves,
    "characters": _characters,
}
