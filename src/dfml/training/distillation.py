"""What teachers say of images, as losses of the meta-model."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from dfml.compute.devices import send
from dfml.compute.ranks import AbstractRanks
from dfml.functional.divergences import kl_divergence
from dfml.functional.inner import Parameters
from dfml.nn.precision import mixed_precision
from dfml.training.alignment import Loss
from dfml.training.meta_model import MetaModel
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import logit_answers

Logits = Callable[[MetaModel, Parameters, Tensor, Tensor], Tensor]
"""The meta-model with these parameters: images and rows of its head to logits."""
Question = tuple[Teacher, Tensor, Tensor]
"""A teacher, images on the canvas, and the rows of the head that belong to the teacher's outputs, in their order."""


def distillation_losses(
    model: MetaModel,
    questions: Sequence[Question],
    ranks: AbstractRanks,
    *,
    logits: Logits,
    divergence: Callable[[Tensor, Tensor], Tensor] = kl_divergence,
) -> list[Loss]:
    """For each question the divergence of the meta-model from the teacher, as a function of its parameters.

    Args:
        model: the meta-model.
        questions: what the teachers are asked, once.
        ranks: processes that share the questions.
        logits: `meta_logits`, or a compiled form of it.
        divergence: of logits from a teacher's logits, in this order: teacher, model.
    """
    answers = ranks.map(_answer, questions)
    return [
        answered(model, answer, images, rows, logits=logits, divergence=divergence)
        for (_, images, rows), (answer,) in zip(questions, answers, strict=True)
    ]


def answered(
    model: MetaModel,
    answer: Tensor,
    images: Tensor,
    rows: Tensor,
    *,
    logits: Logits,
    divergence: Callable[[Tensor, Tensor], Tensor] = kl_divergence,
) -> Loss:
    """The divergence of the meta-model from a teacher's logits on these images; see `distillation_losses`."""

    def loss(parameters: Parameters) -> Tensor:
        with mixed_precision():
            said = logits(model, parameters, images, rows)
        return divergence(answer, said.float())

    return loss


def imitation_losses(
    model: MetaModel,
    questions: Sequence[Question],
    labels: Sequence[Tensor | None],
    ranks: AbstractRanks,
    *,
    logits: Logits,
) -> list[Loss]:
    """As `distillation_losses`, of any teacher that answers at all; with the cross-entropy where labels are known.

    Args:
        model: the meta-model.
        questions: what the teachers are asked, once.
        labels: of each question's images, as the teacher's outputs; None where they show what it may not know.
        ranks: processes that share the questions.
        logits: `meta_logits`, or a compiled form of it.
    """
    answers = ranks.map(lambda question: [logit_answers(*question[:2]).float()], questions)

    def loss(answer: Tensor, images: Tensor, rows: Tensor, wanted: Tensor | None, parameters: Parameters) -> Tensor:
        with mixed_precision():
            said = logits(model, parameters, images, rows)
        divergence = kl_divergence(answer, said.float())
        return divergence if wanted is None else divergence + F.cross_entropy(said.float(), send(wanted, said.device))

    return [
        partial(loss, answer, images, rows, wanted)
        for (_, images, rows), (answer,), wanted in zip(questions, answers, labels, strict=True)
    ]


def meta_logits(model: MetaModel, parameters: Parameters, images: Tensor, rows: Tensor) -> Tensor:
    """See `Logits`."""
    # The learner holds the same encoder a second time: tying would leave the fast weights in its place.
    return functional_call(model, parameters, (images, rows), tie_weights=False)


def _answer(question: Question) -> list[Tensor]:
    teacher, images, _ = question
    with torch.no_grad(), mixed_precision():
        return [teacher.forward(images).logits.float()]
