"""Consolidation with a second target: how similar images are to the ensemble."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfml.functional.divergences import grouped_kl_divergence, grouped_log_softmax
from dfml.methods.consolidate import Consolidate
from dfml.nn import Encoder, as_floats
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.training.bank import AnswerBank
from dfml.zoo import Zoo

Relations = Literal["features", "answers"]
PROJECTED = 512  # numbers that stand for the joined features of all teachers


class RelatedConsolidate(Consolidate):
    """The student must also find the images of a batch as similar to each other as the ensemble does: cosines of
    hidden layers against cosines of all teachers' joined features, or cosines of answers against cosines of answers
    (Tung & Mori 2019, "Similarity-Preserving Knowledge Distillation", https://arxiv.org/abs/1907.09682).

    Args:
        relations: what is compared.
        weight: of the mean squared difference of the cosines.
    """

    def __init__(self, *, relations: Relations, weight: float, **options: Any):
        super().__init__(**options)
        self.relations, self.weight = relations, weight

    def loss(self, student: Encoder, images: Tensor, wanted: Tensor) -> Tensor:
        """``wanted`` has the teachers' answers, and what `with_features` put behind them."""
        backbone, t = student.backbone, self.temperature
        answers, features = wanted.tensor_split([sum(backbone.sizes)], -1)
        with mixed_precision():
            hidden = backbone.trunk(backbone.backbone(student.normalise(images)))
            given = backbone.heads(hidden).float()
        divergence = t**2 * grouped_kl_divergence(answers / t, given / t, backbone.sizes)
        if self.relations == "features":
            return divergence + self.weight * F.mse_loss(cosines(hidden.float()), cosines(features))
        said = (
            (0.5 * grouped_log_softmax(logits, backbone.sizes)).exp() - backbone.origin for logits in (given, answers)
        )
        return divergence + self.weight * F.mse_loss(*map(cosines, said))


def cosines(rows: Tensor) -> Tensor:
    """Of every row with every row."""
    unit = F.normalize(rows, dim=-1)
    return unit @ unit.T


@torch.no_grad()
def with_features(bank: AnswerBank, zoo: Zoo) -> AnswerBank:
    """The bank with, behind the answers, all teachers' features: each teacher's at unit length, joined, around their
    mean, at random projected so that cosines stay what they are within some hundredths.
    """
    projected = torch.zeros(len(bank), PROJECTED)
    for name in zoo.ids:
        teacher = zoo.teacher(name)
        parts = [F.normalize(teacher.features(as_floats(i)), dim=-1) for i in bank.images[: len(bank)].split(128)]
        directions = torch.randn(parts[0].shape[1], PROJECTED, generator=Rng(0).generator("projection", name))
        projected += torch.cat(parts) @ directions / PROJECTED**0.5
    both = torch.cat([bank.answers[: len(bank)].float(), projected - projected.mean(0)], -1)
    wider = AnswerBank(capacity=bank.capacity, shape=tuple(bank.images.shape[1:]), outputs=both.shape[1])
    wider.add(bank.images[: len(bank)], both)
    return wider
