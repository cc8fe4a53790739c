"""Better generalisation: one outer step that makes the gradients of several teachers agree."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.functional.inner import Parameters, displaced_gradient, sequential_displacement, summed_gradient
from dfml.nn import batch_statistics
from dfml.training.meta_model import MetaModel

Loss = Callable[[Parameters], Tensor]
Kind = Literal["sequential", "average", "displaced"]


def align(
    model: MetaModel,
    losses: list[Loss],
    outer: torch.optim.Optimizer,
    *,
    kind: Kind,
    lr: float,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """theta_i = theta_{i-1} - lr grad L_i(theta_{i-1}), losses in random order; ``outer`` follows theta - theta_n.

    Args:
        model: its encoder and head move; BatchNorm gathers running statistics on the way.
        losses: one a teacher, functions of `MetaModel.distilled_parameters`.
        outer: the Reptile optimiser; it follows displacement / (lr n), which has the size of a mean gradient.
        kind: ``average`` follows the plain mean gradient at theta instead, at the same cost; ``displaced`` the mean of
            the gradients each at a point of its own, at twice the cost (`dfml.functional.inner.displaced_gradient`).
        lr: step size of the sequential steps, or of the displacements.
        generator: decides the order.

    Returns:
        The mean of the losses met.
    """
    parameters: Parameters = dict(model.distilled_parameters())
    losses = [losses[i] for i in torch.randperm(len(losses), generator=generator).tolist()]
    model.train()
    direction, met = _direction(kind, losses, parameters, lr)
    model.eval()
    outer.zero_grad()
    for name, p in parameters.items():
        p.grad = direction[name] * (1 / len(losses))
    outer.step()
    return met.mean()


def _direction(
    kind: Kind, losses: list[Loss], parameters: Parameters, lr: float
) -> tuple[Parameters, Float[Tensor, " losses"]]:
    """Of the size of the sum of the losses' gradients, with the losses met."""
    if kind == "sequential":
        return sequential_displacement(losses, parameters, lr=lr)
    if kind == "displaced":
        return displaced_gradient(losses, parameters, lr=lr)
    return summed_gradient(losses, parameters)


def alignment_ratio(model: MetaModel, losses: list[Loss], *, lr: float, kind: Kind = "sequential") -> float:
    """Size of what sequential SGD steps, or displacements, add to the sum of gradients, relative to that sum.

    Far below 0.1 alignment does nothing that plain averaging does not; far above 0.5 the expansion behind it is void.
    """
    parameters: Parameters = dict(model.distilled_parameters())
    with batch_statistics(model):
        displacement, _ = _direction(kind, losses, parameters, lr)
        plain, _ = summed_gradient(losses, parameters)
    added = torch.cat([(displacement[k] - plain[k]).flatten() for k in plain])
    return float(added.norm() / torch.cat([g.flatten() for g in plain.values()]).norm())
