"""Better generalisation: one outer step that makes the gradients of several teachers agree."""

from functools import partial
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.functional.inner import Parameters, sequential_displacement, summed_gradient
from dfml.learners.meta_model import MetaModel
from dfml.nn import batch_statistics, shared_batches
from dfml.ranks import ALONE, AbstractRanks


@runtime_checkable
class Loss(Protocol):
    """Of one teacher, as a function of `MetaModel.distilled_parameters`."""

    def __call__(self, parameters: Parameters, *, ranks: AbstractRanks) -> Float[Tensor, ""]:
        """The part that this process has among ``ranks``, who share the batch; their sum is the loss."""


FAST_OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def align(
    model: MetaModel,
    losses: list[Loss],
    outer: torch.optim.Optimizer,
    *,
    kind: Literal["sequential", "average"],
    lr: float,
    fast_optimiser: Literal["sgd", "adam"],
    scale: float | None,
    generator: torch.Generator,
    ranks: AbstractRanks = ALONE,
) -> Float[Tensor, ""]:
    """theta_i = theta_{i-1} - lr grad L_i(theta_{i-1}), losses in random order; ``outer`` follows theta - theta_n.

    Args:
        model: its encoder and head move; BatchNorm gathers running statistics on the way.
        losses: one a teacher.
        outer: the Reptile optimiser.
        kind: ``average`` follows the plain mean gradient at theta instead, at the same cost.
        lr: step size of the sequential steps.
        fast_optimiser: of the sequential steps.
        scale: None follows displacement / (lr n), the size of a mean gradient; a number times the raw displacement.
        generator: decides the order.
        ranks: processes that share each loss.

    Returns:
        The mean of the losses met.
    """
    parameters: Parameters = dict(model.distilled_parameters())
    ranks, order = ranks.of_a_batch, torch.randperm(len(losses), generator=generator).tolist()
    shares = [partial(losses[i], ranks=ranks) for i in order]
    model.train()
    with shared_batches(model, ranks):
        if kind == "sequential":
            fast = FAST_OPTIMISERS[fast_optimiser]
            direction, met = sequential_displacement(shares, parameters, lr=lr, optimiser=fast, total=ranks.sum)
        else:
            direction, met = summed_gradient(shares, parameters, total=ranks.sum)
    model.eval()
    factor = 1 / len(losses) if scale is None else scale * lr
    outer.zero_grad()
    for name, p in parameters.items():
        p.grad = direction[name] * factor
    outer.step()
    return met.mean()


def alignment_ratio(model: MetaModel, losses: list[Loss], *, lr: float) -> float:
    """Size of what sequential SGD steps add to the sum of gradients, relative to that sum.

    Far below 0.1 alignment does nothing that plain averaging does not; far above 0.5 the expansion behind it is void.
    """
    parameters: Parameters = dict(model.distilled_parameters())
    whole = [partial(loss, ranks=ALONE) for loss in losses]
    with batch_statistics(model):
        displacement, _ = sequential_displacement(whole, parameters, lr=lr)
        plain, _ = summed_gradient(whole, parameters)
    added = torch.cat([(displacement[k] - plain[k]).flatten() for k in plain])
    return float(added.norm() / torch.cat([g.flatten() for g in plain.values()]).norm())
