"""BatchNorm with its statistics as an argument: `running`, `support` or `query_batch`.

`running` uses the statistics gathered in training. `support` normalises everything, queries too, with the
statistics of the support set (inductive: a query's answer does not depend on other queries). `query_batch`
normalises each batch with its own statistics (transductive when the batch holds several queries).

What is adapted gets its policy written into a copy of the network (`write_norm`), which any BatchNorm of torch obeys.
While a learner is trained, gradients flow through the statistics: that is what the modes of `BatchNorm2d` are for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfml.errors import InputError
from dfml.nn.layout import for_batch_norm, inside_transform

BATCH = 64  # images at once where an output does not depend on its batch
Norm = Literal["running", "support", "query_batch"]
MOMENTUM = 0.1  # of torch's BatchNorm, which every network here keeps
Statistics = dict[int, tuple[Tensor, Tensor]]  # layer's position -> (mean, biased variance)


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` that can also use a batch's own or recorded statistics, differentiably.

    Outside `batch_norm` blocks it behaves as torch's. Inside, it never touches the running statistics.
    """

    mode: Literal["torch", "batch", "record", "recorded", "several"] = "torch"
    recorded: tuple[Tensor, Tensor] | None = None
    count: int = 0  # of numbers behind each of the recorded
    batches: int = 1

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise over batch and space; see the module docstring for whose statistics."""
        if self.mode == "torch":
            if self.training or self.running_mean is None:
                return super().forward(for_batch_norm(input))
            return self._affine(input, self.running_mean, self.running_var)  # type: ignore[arg-type]
        if self.mode == "several":
            return self._several(input)
        if self.mode == "record":
            self.recorded = torch.var_mean(input, (0, 2, 3), correction=0)[::-1]
            self.count = input.numel() // input.shape[1]
        if self.mode == "recorded":
            return self._affine(input, *self.recorded)  # type: ignore[misc]
        return F.batch_norm(for_batch_norm(input), None, None, self.weight, self.bias, True, 0.0, self.eps)

    def _several(self, input: Tensor) -> Tensor:
        """As in training, each of several batches by its own statistics; the running ones follow one after another."""
        apart = input.unflatten(0, (self.batches, -1)).transpose(0, 1).flatten(1, 2)  # more channels, fewer images
        running = cast(list[Tensor], [self.running_mean, self.running_var])
        mean, variance = after = [statistic.repeat(self.batches) for statistic in running]
        weight, bias = self.weight.repeat(self.batches), self.bias.repeat(self.batches)
        output = F.batch_norm(apart, mean, variance, weight, bias, True, MOMENTUM, self.eps)
        for statistic, each in zip(running, after, strict=True):
            one_after_another(statistic, statistic.clone(), [(end, 1) for end in each.chunk(self.batches)])
        return output.unflatten(1, (self.batches, -1)).transpose(0, 1).flatten(0, 1)

    def _affine(self, input: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Normalisation by given statistics: torch's own backward is ten times slower on a CPU."""
        fixed = not any(t.requires_grad for t in (mean, variance, self.weight, self.bias))
        if fixed and not inside_transform():
            return _Fixed.apply(input, mean, variance, self.weight, self.bias, self.eps)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul((self.bias - mean * scale)[:, None, None], input, scale[:, None, None])


class _Fixed(torch.autograd.Function):
    """Normalisation in which only the input can change, as in a frozen teacher: a bfloat16 input stays one."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward((weight * (variance + eps).rsqrt())[:, None, None].to(input.dtype))
        return F.batch_norm(input, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None, None, None, None


def one_after_another(running: Tensor, start: Tensor, ends: Sequence[tuple[Tensor, int]]) -> None:
    """Give ``running`` the value that running statistics take after several shares of batches, one after another.

    A batch moves them by r <- (1 - m) r + m s. Each share is what it made of ``start``, and how many batches it had.
    """
    running.copy_(start)
    for end, batches in ends:
        running.copy_(end + (1 - MOMENTUM) ** batches * (running - start))


def norm_layers(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers, in the order of `Statistics`."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm)]


def check_norm(network: nn.Module, norm: str) -> None:
    """Refuse a policy that has nothing to act on.

    Raises:
        InputError: ``support`` or ``query_batch`` for a network without BatchNorm.
    """
    if norm != "running" and not norm_layers(network):
        raise InputError(
            f"norm {norm} for a network without BatchNorm ({type(network).__name__})",
            "norm running, which asks nothing of BatchNorm",
            "set norm to running",
        )


@torch.no_grad()
def write_norm(network: nn.Module, norm: Norm, support: Float[Tensor, "n c h w"]) -> Tensor:
    """Make a network obey a policy from now on, in place; its output for ``support`` under that policy.

    Args:
        network: in eval mode, and the caller's own. ``support`` puts the support's statistics in the place of the
            running ones; ``query_batch`` removes these, so that every batch is normalised by its own.
        norm: the policy.
        support: the input whose statistics count.

    Raises:
        InputError: see `check_norm`.
    """
    check_norm(network, norm)
    if norm == "running":
        return torch.cat([network(batch) for batch in support.split(BATCH)])
    statistics: dict[_BatchNorm, tuple[Tensor, Tensor]] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        everything_but_channels = [d for d in range(inputs[0].ndim) if d != 1]
        variance, mean = torch.var_mean(inputs[0], everything_but_channels, correction=0)
        statistics[cast(_BatchNorm, layer)] = mean, variance

    layers = norm_layers(network)
    for layer in layers:
        layer.running_mean = layer.running_var = None
    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    output = network(support)
    for hook in hooks:
        hook.remove()
    if norm == "support":
        for layer, (mean, variance) in statistics.items():
            layer.running_mean, layer.running_var = mean, variance
    return output


def is_transductive(network: nn.Module) -> bool:
    """Whether an answer depends on its batch, as `write_norm` with ``query_batch`` leaves a network."""
    return any(layer.running_mean is None for layer in norm_layers(network))


@contextmanager
def _mode(network: nn.Module, mode: Literal["batch", "record", "recorded", "several"]) -> Iterator[list[BatchNorm2d]]:
    layers: list[BatchNorm2d] = []
    for layer in norm_layers(network):
        if not isinstance(layer, BatchNorm2d):
            raise InputError(
                f"a {type(layer).__name__} in a network that is trained by episodes",
                "dfml.nn.BatchNorm2d, through whose statistics gradients flow",
                "train a network of dfml.nn.build_backbone, or one whose BatchNorm is replaced by dfml.nn.BatchNorm2d",
            )
        layers.append(layer)
    for layer in layers:
        layer.mode = mode
    try:
        yield layers
    finally:
        for layer in layers:
            layer.mode, layer.recorded = "torch", None


@contextmanager
def several_batches(network: nn.Module, batches: int) -> Iterator[None]:
    """Inside, a batch is ``batches`` of equal size, one behind the other, and BatchNorm trains on each by itself."""
    with _mode(network, "several") as layers:
        for layer in layers:
            layer.batches = batches
        yield


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, every BatchNorm normalises with the statistics of the batch at hand."""
    with _mode(network, "batch"):
        yield


@contextmanager
def record_statistics(network: nn.Module) -> Iterator[Statistics]:
    """As `batch_statistics`; the dictionary holds each layer's last statistics after the block (with gradients)."""
    statistics: Statistics = {}
    with _mode(network, "record") as layers:
        yield statistics
        statistics.update({i: layer.recorded for i, layer in enumerate(layers) if layer.recorded is not None})


@contextmanager
def given_statistics(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, every BatchNorm normalises with ``statistics``, as `record_statistics` gave them."""
    with _mode(network, "recorded") as layers:
        for i, layer in enumerate(layers):
            layer.recorded = statistics[i]
        yield
