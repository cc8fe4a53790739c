"""How well a score tells members of a training set from other images."""

import torch
from jaxtyping import Float
from torch import Tensor


def area_under_curve(members: Float[Tensor, " m"], others: Float[Tensor, " n"]) -> float:
    """The chance that a member's score is higher than another image's; ties count half (Mann and Whitney 1947).

    0.5 tells nothing, 1 tells every member.
    """
    ahead = members[:, None] > others
    tied = members[:, None] == others
    return float((ahead.double() + 0.5 * tied.double()).mean())


def found_at(members: Float[Tensor, " m"], others: Float[Tensor, " n"], *, false: float = 0.01) -> float:
    """The share of members above a threshold that a share ``false`` of the others reaches at most.

    What counts for privacy is whether some members are told with certainty, which a mean hides (Carlini et al., IEEE
    S&P 2022, "Membership inference attacks from first principles").
    """
    threshold = others.sort(descending=True).values[int(false * len(others))]
    return float((members > threshold).double().mean())


def standard(members: Float[Tensor, " m"], others: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Both in standard deviations of the others around their mean, so that scores of several tasks may be pooled."""
    mean, deviation = others.mean(), others.std().clamp(min=torch.finfo(others.dtype).eps)
    return (members - mean) / deviation, (others - mean) / deviation
