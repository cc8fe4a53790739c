"""Divergences between softmax outputs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def kl_divergence(
    teacher_logits: Float[Tensor, "n classes"], student_logits: Float[Tensor, "n classes"], *, reduce: bool = True
) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), summed over classes; mean over the batch, or [n] without ``reduce``."""
    teacher, student = F.log_softmax(teacher_logits, -1), F.log_softmax(student_logits, -1)
    kl = (teacher.exp() * (teacher - student)).sum(-1)
    return kl.mean() if reduce else kl


def grouped_log_softmax(logits: Float[Tensor, "n outputs"], sizes: Sequence[int]) -> Float[Tensor, "n outputs"]:
    """Log-probabilities of several classifiers with ``sizes`` classes, whose outputs stand one after another."""
    if len(set(sizes)) == 1:
        return F.log_softmax(logits.unflatten(-1, (-1, sizes[0])), -1).flatten(-2)
    return torch.cat([F.log_softmax(part, -1) for part in logits.split(list(sizes), -1)], -1)


def grouped_kl_divergence(
    teacher_logits: Float[Tensor, "n outputs"], student_logits: Float[Tensor, "n outputs"], sizes: Sequence[int]
) -> Float[Tensor, ""]:
    """The mean of `kl_divergence` over several teachers, whose outputs stand one after another."""
    teacher, student = grouped_log_softmax(teacher_logits, sizes), grouped_log_softmax(student_logits, sizes)
    return (teacher.exp() * (teacher - student)).sum(-1).mean() / len(sizes)


def inner_product_distillation(
    teacher_logits: Float[Tensor, "n classes"], student_logits: Float[Tensor, "n classes"]
) -> Float[Tensor, ""]:
    """mean_{b,c} p_T (log p_T - p_S), what the published code minimises in the place of KL.

    It is a constant minus <p_T, p_S> / classes: its minimiser is the one-hot argmax of p_T, not p_T.
    """
    teacher = teacher_logits.softmax(-1)
    return (teacher * (F.log_softmax(teacher_logits, -1) - student_logits.softmax(-1))).mean()
