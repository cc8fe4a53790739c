"""Pictures that are drawn from nothing, of any size: leaves, things, characters."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data.glyphs import characters
from dfml.functional.drawing import dead_leaves, things
from dfml.nn import InputSpec, as_floats

Drawing = Literal["leaves", "things", "characters", "things and characters"]


def draw(drawing: Drawing, n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    """So many pictures in [0, 1], on the CPU.

    Args:
        drawing: overlapping shapes or one thing before a ground (`dfml.functional.drawing`), characters of many scripts
            (`dfml.data.glyphs`), or as many of both, in any order.
        n: pictures.
        canvas: their channels and size.
        generator: a CPU generator.
    """
    kinds = drawing.split(" and ")
    counts = [(n + i) // len(kinds) for i in range(len(kinds))]
    parts = [_DRAWINGS[kind](count, canvas, generator) for kind, count in zip(kinds, counts, strict=True) if count]
    return torch.cat(parts)[torch.randperm(n, generator=generator)] if len(kinds) > 1 else parts[0]


def _leaves(n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    return dead_leaves(n, canvas.channels, canvas.size, generator)


def _things(n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    return things(n, canvas.channels, canvas.size, generator)


def _characters(n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
    return canvas.fit(as_floats(characters(n, generator)))


_DRAWINGS: dict[str, Callable[[int, InputSpec, torch.Generator], Tensor]] = {
    "leaves": _leaves,
    "things": _things,
    "characters": _characters,
}
