"""Divergences between softmax outputs."""

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


def inner_product_distillation(
    teacher_logits: Float[Tensor, "n classes"], student_logits: Float[Tensor, "n classes"]
) -> Float[Tensor, ""]:
    """mean_{b,c} p_T (log p_T - p_S), what the published code minimises in the place of KL (methods.md 8.2.1).

    It is a constant minus <p_T, p_S> / classes: its minimiser is the one-hot argmax of p_T, not p_T.
    """
    teacher = teacher_logits.softmax(-1)
    return (teacher * (F.log_softmax(teacher_logits, -1) - student_logits.softmax(-1))).mean()
