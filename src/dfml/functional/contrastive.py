"""Features of one class together, of several apart."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def supervised_contrastive(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], *, temperature: float
) -> Float[Tensor, ""]:
    """Mean over i of -1/|P(i)| sum_{p in P(i)} log(exp(s_ip / t) / sum_{a != i} exp(s_ia / t)), s the cosine.

    P(i) are the others of i's class (Khosla et al., NeurIPS 2020, "Supervised Contrastive Learning", L_out). Those
    that are alone in their class are left out of the mean; where all are, it is zero.

    Args:
        features: one a row; of any length.
        labels: their classes.
        temperature: t.
    """
    unit = F.normalize(features, dim=-1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logs = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf).log_softmax(-1).masked_fill(itself, 0.0)
    others = ((labels[:, None] == labels) & ~itself).to(logs.dtype)
    count = others.sum(-1)
    each = -(others * logs).sum(-1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
