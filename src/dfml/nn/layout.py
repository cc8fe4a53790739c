"""Memory layouts, where a transform of `torch.func` lets one choose."""

import torch
from torch import Tensor


def inside_transform() -> bool:
    """Whether a transform of `torch.func` (vmap, say) is at work; its tensors have no layout and take no bit tricks."""
    return torch._C._functorch.maybe_current_level() is not None


def channels_last(x: Tensor) -> Tensor:
    """The tensor in channels-last layout, which convolutions run faster in; inside a transform unchanged."""
    return x if inside_transform() else x.contiguous(memory_format=torch.channels_last)


def for_batch_norm(x: Tensor) -> Tensor:
    """In the standard layout inside a transform: of another, cuDNN's BatchNorm asks what vmap cannot answer."""
    return x.contiguous() if inside_transform() else x
