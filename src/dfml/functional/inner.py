"""The differentiable inner loop that serves the whole library."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Parameters = dict[str, Tensor]


def gradient_steps(
    loss: Callable[[Parameters], Tensor], parameters: Parameters, *, steps: int, lr: float, second_order: bool
) -> Parameters:
    """``steps`` of gradient descent on ``loss``: p <- p - lr dloss/dp.

    The result stays a function of ``parameters``. With ``second_order`` its derivative is exact; without, the inner
    gradients count as constants, which gives the first-order MAML gradient (Finn et al., ICML 2017, section 5.2).

    Args:
        loss: a scalar of the parameters.
        parameters: tensors that require gradients, by name.
        steps: gradient steps.
        lr: step size.
        second_order: differentiate through the inner gradients.
    """
    # Identity views: a head that started from prototypes is a function of the encoder, but not in the inner loop.
    parameters = {k: p.view_as(p) for k, p in parameters.items()}
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(parameters), list(parameters.values()), create_graph=second_order)
        parameters = {k: p - lr * g for (k, p), g in zip(parameters.items(), gradients, strict=True)}
    return parameters


def sequential_displacement(
    losses: list[Callable[[Parameters], Tensor]],
    parameters: Parameters,
    *,
    lr: float,
    optimiser: type[torch.optim.Optimizer] = torch.optim.SGD,
) -> tuple[Parameters, Float[Tensor, " losses"]]:
    """(theta_0 - theta_n) / lr after one step on each loss in turn, and the losses met: implicit gradient alignment.

    With SGD it is to first order the sum of the losses' gradients g_i. Averaged over all orders its next part is
    -(lr/2) grad sum_{i<j} <g_i, g_j>, so descending it raises the inner products of the gradients (the argument of
    Reptile, Nichol et al. 2018, section 5, with one step a task). Adam's sign-like first steps have no such reading.
    """
    theta = {k: p.detach().clone().requires_grad_() for k, p in parameters.items()}
    fast = optimiser(theta.values(), lr=lr)  # type: ignore[call-arg]
    met = []
    for loss in losses:
        value = loss(theta)
        for p, g in zip(theta.values(), torch.autograd.grad(value, list(theta.values())), strict=True):
            p.grad = g
        fast.step()
        met.append(value.detach())
    return {k: (parameters[k].detach() - p.detach()) / lr for k, p in theta.items()}, torch.stack(met)


def summed_gradient(
    losses: list[Callable[[Parameters], Tensor]], parameters: Parameters
) -> tuple[Parameters, Float[Tensor, " losses"]]:
    """The sum of the losses' gradients, all at ``parameters``: what alignment is compared with, at the same cost."""
    theta = {k: p.detach().requires_grad_() for k, p in parameters.items()}
    total = {k: torch.zeros_like(p) for k, p in theta.items()}
    met = []
    for loss in losses:
        value = loss(theta)
        for k, g in zip(theta, torch.autograd.grad(value, list(theta.values())), strict=True):
            total[k] += g
        met.append(value.detach())
    return total, torch.stack(met)


def displaced_gradient(
    losses: list[Callable[[Parameters], Tensor]], parameters: Parameters, *, lr: float
) -> tuple[Parameters, Float[Tensor, " losses"]]:
    """sum_i grad L_i(theta + lr (g_i - mean g)), and the losses at theta: an implicit penalty of gradient variance.

    g_i is the gradient of L_i at theta; the displacement counts as a constant. To first order in lr the result is the
    gradient of sum_i L_i + (lr/2) sum_i |g_i - mean g|^2, whose second part is lr sum_i H_i (g_i - mean g): second
    derivatives without computing any. Were the displacement differentiated, too, the penalty would count twice.
    """
    theta = {k: p.detach().requires_grad_() for k, p in parameters.items()}
    here, met = [], []
    for loss in losses:
        value = loss(theta)
        here.append(torch.autograd.grad(value, list(theta.values())))
        met.append(value.detach())
    mean = [torch.stack(gradients).mean(0) for gradients in zip(*here, strict=True)]
    total = {k: torch.zeros_like(p) for k, p in theta.items()}
    for loss, gradients in zip(losses, here, strict=True):
        there = {
            k: (p.detach() + lr * (g - m)).requires_grad_()
            for (k, p), g, m in zip(theta.items(), gradients, mean, strict=True)
        }
        for k, g in zip(there, torch.autograd.grad(loss(there), list(there.values())), strict=True):
            total[k] += g
    return total, torch.stack(met)
