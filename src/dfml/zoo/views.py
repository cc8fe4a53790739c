"""Views of a teacher: one that counts what it is asked, and one that hides all but its answers."""

from collections import Counter
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Num, Shaped
from torch import Tensor

from dfml.errors import InputError
from dfml.nn.foreign import as_logits
from dfml.zoo.card import AnswerKind, Capability
from dfml.zoo.teacher import Forward, LocalTeacher, Teacher
from dfml.zoo.told import Told

ANSWERS: dict[AnswerKind, Capability] = {
    "labels": Capability.LABELS,
    "probabilities": Capability.LABELS | Capability.PROBABILITIES,
    "logits": Capability.LABELS | Capability.PROBABILITIES | Capability.LOGITS,
}
"""What a teacher can be asked that gives so much of its answers and nothing else; the most comes last."""


@dataclass
class Tally:
    """What teachers were asked so far.

    Args:
        queries: images passed through a teacher, with gradient or without; one that is asked for twice counts twice.
        by_teacher: the same, of each.
    """

    queries: int = 0
    by_teacher: Counter[str] = field(default_factory=Counter)

    def add(self, teacher: str, images: int) -> None:
        """Count."""
        self.queries += images
        self.by_teacher[teacher] += images


class Counted:
    """A teacher that counts.

    Args:
        teacher: is asked.
        tally: counts; several teachers may share it.
    """

    def __init__(self, teacher: Teacher, tally: Tally):
        self.teacher, self.tally = teacher, tally
        self.card, self.capabilities = teacher.card, teacher.capabilities

    @property
    def device(self) -> torch.device:
        """The teacher's."""
        return self.teacher.device

    def forward(self, images: Num[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """See `Teacher.forward`."""
        self.tally.add(self.card.id, len(images))
        return self.teacher.forward(images, statistics=statistics)

    def features(self, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """See `Teacher.features`."""
        self.tally.add(self.card.id, len(images))
        return self.teacher.features(images)

    def answers(self, images: Num[Tensor, "n c h w"], kind: AnswerKind = "logits") -> Shaped[Tensor, "n ..."]:
        """See `Teacher.answers`."""
        self.tally.add(self.card.id, len(images))
        return self.teacher.answers(images, kind)


class BlackBox:
    """A teacher of which one sees the answers alone, as through an API.

    Args:
        teacher: is asked.
        told: the most that it gives: ``labels`` or ``probabilities`` (``logits`` for one that gives them), or fewer
            or rounded probabilities. Of a teacher that gives less it is what that gives.
    """

    def __init__(self, teacher: Teacher, told: AnswerKind | Told = "probabilities"):
        self.teacher, self.told = teacher, told if isinstance(told, Told) else Told(told)
        self.kind = self.told.kind
        self.card, self.capabilities = teacher.card, ANSWERS[self.kind] & teacher.capabilities

    @property
    def device(self) -> torch.device:
        """The teacher's."""
        return self.teacher.device

    def forward(self, images: Num[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """Refused: nothing flows back through an API."""
        raise self._refused("a differentiable pass")

    def features(self, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Refused: an API gives none."""
        raise self._refused("features")

    def answers(self, images: Num[Tensor, "n c h w"], kind: AnswerKind = "probabilities") -> Shaped[Tensor, "n ..."]:
        """See `Teacher.answers`.

        Raises:
            InputError: a kind that it does not give.
        """
        if ANSWERS[kind] not in self.capabilities:
            raise self._refused(kind)
        return self.told.of(self.teacher.answers(images, kind), kind)

    def _refused(self, asked: str) -> InputError:
        return refused(asked, self.card.id, self.kind)


def refused(asked: str, model: str, kind: AnswerKind) -> InputError:
    """Of a model that gives answers alone, something else was asked."""
    return InputError(
        f"{asked} of {model}, which gives {kind} alone",
        f"no more than {kind}",
        "choose a method that needs no more, or a zoo of models whose weights are at hand",
    )


def most_told(teacher: Teacher) -> AnswerKind:
    """The most that its answers tell."""
    return [kind for kind, needed in ANSWERS.items() if needed in teacher.capabilities][-1]


def logit_answers(teacher: Teacher, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
    """Logits, or what stands for them (`dfml.nn.foreign.as_logits`) where a teacher tells less."""
    kind = most_told(teacher)
    return as_logits(teacher.answers(images, kind), kind, len(teacher.card.class_ids))


@torch.no_grad()
def answers_and_features(
    teacher: Teacher, images: Num[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n features"]]:
    """Logits and features of many images without gradient, of a teacher with FEATURES; one pass where it is local."""
    if (own := local(teacher)) is None:
        return logit_answers(teacher, images), teacher.features(images)
    if isinstance(teacher, Counted):
        teacher.tally.add(teacher.card.id, len(images))
    return own.answers_and_features(images)


def local(teacher: Teacher) -> LocalTeacher | None:
    """The teacher whose weights are at hand behind a counting view, or None."""
    inner = teacher.teacher if isinstance(teacher, Counted) else teacher
    return inner if isinstance(inner, LocalTeacher) else None
