"""How alike several representations of the same things are."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def kernel_alignment(representations: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, "k k"]:
    """Linear CKA of each pair (Kornblith et al., ICML 2019, https://arxiv.org/abs/1905.00414, equation 4).

    Args:
        representations: of the same n things, each of any width.

    Returns:
        0 to 1: 1 for those that are equal up to a rotation, a scale and a shift; 0 where one of them is constant.
    """
    kernels = []
    for each in representations:
        centred = (each - each.mean(0)).double()
        kernel = (centred @ centred.T).flatten()
        kernels.append(kernel / kernel.norm().clamp(min=1e-12))
    stacked = torch.stack(kernels)
    return (stacked @ stacked.T).clamp(0, 1).float()
