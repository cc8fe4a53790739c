"""What a recovered image should look like to its teacher: class prior, BatchNorm alignment, disagreement.

Every term is a mean, so that a weight carries over between architectures.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfml.functional.divergences import kl_divergence


@dataclass(frozen=True)
class BatchNormStatistics:
    """Of one BatchNorm layer's input: the batch's mean and biased variance, and the layer's running ones."""

    mean: Float[Tensor, " channels"]
    variance: Float[Tensor, " channels"]
    running_mean: Float[Tensor, " channels"]
    running_variance: Float[Tensor, " channels"]


class _Moments(torch.autograd.Function):
    """Mean and biased variance per channel: one pass forward and one backward, where torch.var_mean takes eight."""

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor]:
        # Torch gives them in the type of the running statistics: float32 where the images are bfloat16.
        half = x.dtype == torch.bfloat16
        running = [x.new_zeros(x.shape[1], dtype=torch.float32) if half else None for _ in range(2)]
        mean, variance = torch.ops.aten.batch_norm_update_stats(x, *running, 0.0)
        ctx.save_for_backward(x, mean)
        return mean, variance

    @staticmethod
    def backward(ctx, grad_mean: Tensor, grad_variance: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        scale = 2 / count * grad_variance
        shift = grad_mean / count - scale * mean
        return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])


def batch_moments(x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and biased variance of each channel over the batch, differentiable."""
    return _Moments.apply(x)


def _seen(layer: nn.Module) -> bool:
    """Whether a layer normalises maps by statistics of its own."""
    return isinstance(layer, _BatchNorm) and not isinstance(layer, nn.BatchNorm1d) and layer.running_mean is not None


@contextmanager
def capture_statistics(network: nn.Module) -> Iterator[list[BatchNormStatistics]]:
    """Inside the block, each forward pass of ``network`` appends the statistics of its BatchNorm inputs to the list.

    The hooks are gone after the block. Clear the list between passes.
    """
    captured: list[BatchNormStatistics] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = batch_moments(inputs[0])
        captured.append(BatchNormStatistics(mean, variance, layer.running_mean, layer.running_var))  # type: ignore[arg-type]

    handles = [m.register_forward_pre_hook(hook) for m in network.modules() if _seen(m)]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def class_prior(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of the teacher on the wanted labels."""
    return F.cross_entropy(logits, labels)


def batchnorm_alignment(statistics: Sequence[BatchNormStatistics], eps: float = 1e-5) -> Float[Tensor, ""]:
    """Mean over layers and channels of ((mu - mu_hat)^2 + (sigma - sigma_hat)^2) / (sigma_hat^2 + eps).

    Zero on matched statistics. Relative to the layer's own variance, so width and depth do not change its weight.
    """
    layers = []
    for s in statistics:
        deviation = (s.variance + eps).sqrt() - (s.running_variance + eps).sqrt()
        layers.append((((s.mean - s.running_mean) ** 2 + deviation**2) / (s.running_variance + eps)).mean())
    return torch.stack(layers).mean()


def batchnorm_norms(statistics: Sequence[BatchNormStatistics]) -> Float[Tensor, ""]:
    """Sum over layers of ||mu - mu_hat|| + ||var - var_hat||: the form of DeepInversion (Yin et al., CVPR 2020)."""
    layers = [
        torch.linalg.vector_norm(s.mean - s.running_mean) + torch.linalg.vector_norm(s.variance - s.running_variance)
        for s in statistics
    ]
    return torch.stack(layers).sum()


def total_variation(images: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of neighbouring pixels, down and across (Mahendran & Vedaldi, CVPR 2015, beta = 2)."""
    return images.diff(dim=2).square().mean() + images.diff(dim=3).square().mean()


def disagreement(
    teacher_logits: Float[Tensor, "n classes"], student_logits: Float[Tensor, "n classes"]
) -> Float[Tensor, ""]:
    """Decision-adversarial disagreement: -mean_b 1[same argmax] KL(teacher || student), gradients through both.

    Descending it asks for images on which the student still answers like the teacher but differs most.
    """
    agree = (teacher_logits.argmax(-1) == student_logits.argmax(-1)).float()
    return -(agree * kl_divergence(teacher_logits, student_logits, reduce=False)).mean()


def boundary_disagreement(
    teacher_logits: Float[Tensor, "*more n classes"], student_logits: Float[Tensor, "*more n classes"]
) -> Float[Tensor, "*more n"]:
    """Of each image -1[same argmax] |p_T - p_S|_1, from probabilities alone; gradients through both.

    Descending it asks for images near the student's decision boundary: answered alike, and as differently as that
    allows.
    """
    agree = (teacher_logits.argmax(-1) == student_logits.argmax(-1)).float()
    return -agree * (teacher_logits.softmax(-1) - student_logits.softmax(-1)).abs().sum(-1)
