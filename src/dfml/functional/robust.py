"""Distributionally robust optimisation in a Wasserstein ball, in its Lagrangian form."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def worst_nearby(
    loss: Callable[[Tensor], Tensor], centres: Float[Tensor, "n d"], *, penalty: float, steps: int, lr: float
) -> Float[Tensor, "n d"]:
    """Points that raise ``loss(x) - penalty |x - centre|^2``, by gradient ascent from each centre.

    The inner supremum of Sinha, Namkoong, Duchi, ICLR 2018, equation 2: the expected loss under the worst distribution
    around the centres, whose distance costs ``penalty`` for each unit of squared transport.

    Args:
        loss: of n points, n numbers; each depends on its own point alone.
        centres: the points to start from.
        penalty: of the squared distance.
        steps: of ascent.
        lr: their step size.
    """
    centres = centres.detach()
    points = centres
    for _ in range(steps):
        points = points.requires_grad_()
        gained = (loss(points) - penalty * ((points - centres) ** 2).sum(-1)).sum()
        (gradient,) = torch.autograd.grad(gained, [points])
        points = (points + lr * gradient).detach()
    return points.detach()
