"""Probabilities as an API tells them, and what can be made of them again."""

import torch
from jaxtyping import Float
from torch import Tensor

UNSEEN = 0.5  # of the last decimal: what all those that were rounded to nothing are taken for together, at least


def rounded(
    probabilities: Float[Tensor, "n classes"], *, decimals: int | None = None, top: int | None = None
) -> Float[Tensor, "n classes"]:
    """Probabilities as far as they are told; what is not told is 0.

    Args:
        probabilities: rows that sum to 1.
        decimals: that they are rounded to; None is all.
        top: so many of the largest alone; None is all.
    """
    said = probabilities.double()
    if top is not None:
        values, places = said.topk(top, -1)
        said = torch.zeros_like(said).scatter(-1, places, values)
    return said if decimals is None else said.round(decimals=decimals)


def completed(said: Float[Tensor, "n classes"], *, decimals: int | None = None) -> Float[Tensor, "n classes"]:
    """Rounded or cut-off probabilities as ones that sum to 1.

    What is missing is shared by those that are 0. They are not taken for impossible where nothing is missing: together
    they are at least half of the last decimal.

    Args:
        said: non-negative; rows may sum to less than 1, or by rounding to more.
        decimals: that they were rounded to; None is all.
    """
    missing = (1 - said.sum(-1, keepdim=True)).clamp(0, 1)
    silent = said == 0
    least = 0.0 if decimals is None else UNSEEN * 10.0**-decimals
    share = missing.clamp(min=least) / silent.sum(-1, keepdim=True).clamp(min=1)
    whole = torch.where(silent, share, said)
    return whole / whole.sum(-1, keepdim=True)
