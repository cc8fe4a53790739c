"""The contract of every way to recover images from teachers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher

Student = Callable[[Tensor], Tensor]
"""Images in [0, 1] to logits in one teacher's label order; differentiable."""


@dataclass(frozen=True)
class Recovered:
    """Images of one teacher: float32 in [0, 1], labels as the teacher's output indices, un-weighted loss terms."""

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    terms: dict[str, float]
    queries: int = 0


def mean_terms(recovered: Sequence[Recovered]) -> dict[str, float]:
    """Each loss term, mean over teachers."""
    names = {name for r in recovered for name in r.terms}
    return {name: sum(r.terms[name] for r in recovered) / len(recovered) for name in sorted(names)}


class AbstractRecovery(ABC):
    """Makes images from teachers. It may learn while it does (a meta-generator); its state travels in checkpoints."""

    requires: ClassVar[Capability]
    uses_data: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, spec: InputSpec, rng: Rng) -> None:
        """Create what is learned, for images of ``spec``; called once before the first `recover`."""

    @abstractmethod
    def recover(
        self,
        teachers: Sequence[Teacher],
        labels: Sequence[Int[Tensor, " _"]],
        *,
        students: Sequence[Student] | None = None,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Images for each teacher with these labels (its output indices).

        Args:
            teachers: the visited teachers.
            labels: the wanted labels, one tensor a teacher.
            students: one a teacher, for adversarial terms; None where there is no learner yet.
            rng: of this call alone.
            learn: False recovers without learning from the visit (for contact sheets and validation).
            ranks: processes that share the visits.
        """

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move what `prepare` created, in place; images come from where the teachers are."""

    def show(self, teachers: Sequence[Teacher], images_per_class: int, rng: Rng) -> list[Recovered]:
        """So many images of every class of each teacher, without learning from the visit, for people to look at."""
        labels = [torch.arange(len(t.card.class_ids)).repeat(images_per_class) for t in teachers]
        return self.recover(teachers, labels, rng=rng, learn=False)

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; `prepare` was called before."""
