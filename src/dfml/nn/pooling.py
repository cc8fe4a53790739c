"""2x2 max-pooling for CPUs, where torch's own is slower than the convolution before it."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.nn.layout import inside_transform

SMALL = 1 << 19  # elements up to which torch's one call costs less than our several
SIGNED = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # integers of a float's size


class MaxPool2x2(nn.Module):
    """`torch.nn.MaxPool2d(2)`: the same values, and the same gradient but for ties, where either place may take it.

    On a CPU it is two maxima of neighbours, rows then columns, and the gradient finds its way back by bit masks: torch
    looks for the index of each maximum and compares booleans, neither of them vectorised.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """The largest of each 2x2 square; an odd last row or column is left out."""
        if x.numel() <= SMALL or x.device.type != "cpu" or inside_transform():
            return F.max_pool2d(x, 2)
        if torch.is_grad_enabled() and x.requires_grad:
            return _Larger.apply(_Larger.apply(x, 2), 3)
        return torch.maximum(*_pairs(torch.maximum(*_pairs(x, 2)), 3))


def _pairs(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Even and odd places along ``dim``, as views."""
    even = (slice(None),) * dim
    last = x.shape[dim] // 2 * 2
    return x[(*even, slice(0, last, 2))], x[(*even, slice(1, last, 2))]


class _Larger(torch.autograd.Function):
    """The larger of neighbours along a dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        """The maxima; what is kept for the gradient is which of the two won, as bit masks, rather than the values."""
        first, second = _pairs(x, dim)
        behind = torch.sub(first, second).view(SIGNED[x.element_size()])
        ctx.save_for_backward(behind.bitwise_right_shift_(8 * x.element_size() - 1))  # all bits where the second won
        ctx.dim, ctx.size = dim, x.shape[dim]
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """By `_Spread`, so that it has a gradient too."""
        return _Spread.apply(gradient, ctx.saved_tensors[0], ctx.dim, ctx.size), None


class _Spread(torch.autograd.Function):
    """The gradient of `_Larger`, itself differentiable: what comes in goes to the winner, its neighbour gets zero."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, second_won: Tensor, dim: int, size: int) -> Tensor:
        """What comes in at the winners' places, and zeros at all others, an odd last place among them."""
        ctx.save_for_backward(second_won)
        ctx.dim = dim
        shape = [*gradient.shape]
        shape[dim] = size
        layout = torch.channels_last if gradient.is_contiguous(memory_format=torch.channels_last) else None
        spread = torch.empty(shape, dtype=gradient.dtype, memory_format=layout or torch.contiguous_format)
        if size % 2:
            spread.select(dim, size - 1).zero_()
        whole, (first, second) = gradient.view(second_won.dtype), _pairs(spread.view(second_won.dtype), dim)
        torch.bitwise_and(whole, second_won, out=second)
        torch.sub(whole, second, out=first)  # of bits: all of them, or none
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """What stands at the winners' places."""
        (second_won,) = ctx.saved_tensors
        first, second = (part.contiguous().view(second_won.dtype) for part in _pairs(gradient, ctx.dim))
        chosen = (first & ~second_won) | (second & second_won)
        return chosen.view(gradient.dtype), None, None, None
