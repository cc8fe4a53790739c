"""Fast arithmetic where it is safe: convolutions in bfloat16, weights and losses in float32."""

from contextlib import AbstractContextManager
from functools import cache

import torch


@cache
def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies in bfloat16."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported is not None and supported())


def mixed_precision() -> AbstractContextManager[None]:
    """Inside, convolutions and products on the CPU run in bfloat16 where that is fast; elsewhere nothing changes.

    Casts are not cached: functional code steps weights in place, and a cached cast would be of the old ones.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast(), cache_enabled=False)
