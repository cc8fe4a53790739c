"""Gradients of what can only be asked for its value."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def random_directions(count: int, shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "{count} n c h w"]:
    """For each of n images (``shape``: n c h w) ``count`` directions, uniform on the unit sphere of its pixels.

    Args:
        count: directions of each image.
        shape: of the images.
        generator: a CPU generator.
    """
    drawn = torch.randn(count, *shape, generator=generator)
    return drawn / torch.linalg.vector_norm(drawn, dim=(2, 3, 4), keepdim=True)


def zeroth_order_gradient(
    before: Float[Tensor, " n"],
    after: Float[Tensor, "q n"],
    directions: Float[Tensor, "q n c h w"],
    radius: float,
) -> Float[Tensor, "n c h w"]:
    """d/q sum_j (l(x + radius u_j) - l(x)) / radius u_j, of every image x of d numbers by itself.

    For a linear loss its mean over random directions u_j is the gradient, and d orthogonal ones give it exactly; else
    that mean is the gradient of the loss averaged over a ball of this radius (Flaxman et al., SODA 2005, lemma 1). The
    estimate of q directions points along the gradient with a cosine of about sqrt(q / (q + d)).

    Args:
        before: the loss of each image.
        after: of the image moved along each direction by ``radius``.
        directions: unit vectors, as `random_directions` gives.
        radius: length of the moves.
    """
    count, size = len(directions), directions[0, 0].numel()
    slopes = (after - before) / radius
    return torch.einsum("qn,qnchw->nchw", slopes, directions) * (size / count)
