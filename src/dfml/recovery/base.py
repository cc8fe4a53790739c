"""The contract of every way to recover images from teachers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher

SHOWN = 20  # classes of a teacher, on a contact sheet
SINGLE = 1.0  # stands for the spread of a class of one image; pixels in [0, 1] never reach it
UsesData = bool | Literal["unlabelled"]
"""What a method or recovery is shown of real images: nothing, pictures without labels, or labelled ones."""
Student = Callable[[Tensor], Tensor]
"""Images in [0, 1] on the canvas to logits in one teacher's label order; differentiable."""


@dataclass(frozen=True)
class Visit:
    """What is wanted from a teacher.

    Args:
        teacher: to recover images from.
        labels: wanted, as its output indices.
        student: that is to disagree with it, if anybody.
        peers: others that know a class of the teacher, to be asked whether they see it, too.
        named: False where nobody wants to know what it takes images for that were not made after its answers.
    """

    teacher: Teacher
    labels: Int[Tensor, " n"]
    student: Student | None = None
    peers: Sequence[Teacher] = ()
    named: bool = True


@dataclass(frozen=True)
class Recovered:
    """Images of one visit.

    Args:
        images: float32 in [0, 1], on the canvas.
        labels: that were wanted, or that the teacher gives (`Visit.named`).
        terms: un-weighted losses, and whatever else is worth a curve.
        varied: the images of a class differ by themselves, so that nobody need distort them.
    """

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    terms: dict[str, float]
    varied: bool = False


def mean_terms(recovered: Sequence[Recovered]) -> dict[str, float]:
    """Each term, mean over the visits that have it; ``spread`` where several images of a class are there."""
    names = sorted({name for r in recovered for name in r.terms})
    terms = {name: fmean(r.terms[name] for r in recovered if name in r.terms) for name in names}
    spread = float(torch.stack([_class_spread(r.images, r.labels) for r in recovered]).mean()) if recovered else SINGLE
    return terms | ({"spread": spread} if spread < SINGLE else {})


def _class_spread(images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Standard deviation of a pixel among the images of a class, in the root mean square; SINGLE of single images.

    Without a look at the labels, so that no device is waited for.
    """
    same = (labels[:, None] == labels).to(images, non_blocking=True)
    counts = same.sum(1)
    flat = images.flatten(1)
    squares = (flat - same @ flat / counts[:, None]).square().mean(1) * counts / (counts - 1).clamp(min=1)
    several = (counts > 1).float()
    spread = ((squares * several).sum() / several.sum().clamp(min=1)).sqrt()
    return torch.where(several.any(), spread, torch.full_like(spread, SINGLE))


def above_chance(share: float, classes: int) -> float:
    """A share as 0 where it is what guessing gives, and 1 where it is all."""
    return (share - 1 / classes) / (1 - 1 / classes) if classes > 1 else share


@runtime_checkable
class RecoveryState(Protocol):
    """What a recovery learns from one visit to the next; a checkpoint holds it."""

    def to(self, device: torch.device) -> Any:
        """Move it, in place; images come from where the teachers are."""

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


@dataclass
class Canvas:
    """The state of a recovery that learns nothing: the images that it makes."""

    spec: InputSpec

    def to(self, device: torch.device) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""


R = TypeVar("R", bound=RecoveryState)


class AbstractRecovery(ABC, Generic[R]):
    """Makes images from teachers. The object holds hyper-parameters alone; what it learns is in its state."""

    uses_data: ClassVar[UsesData] = False

    @abstractmethod
    def requires(self) -> Capability:
        """What a teacher must be able to give, with these hyper-parameters."""

    def asks(self, able: Capability) -> bool:
        """Whether a teacher that is ``able`` to give so much is asked anything for images that nobody wants named."""
        return True

    @abstractmethod
    def init(self, canvas: InputSpec, rng: Rng) -> R:
        """A state before the first visit, for images of ``canvas``."""

    @abstractmethod
    def recover(
        self,
        state: R,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Images for each visit.

        Args:
            state: of this recovery; changed in place where it learns.
            visits: teachers with the wanted labels.
            rng: of this call alone.
            learn: False recovers without learning from the visits (for contact sheets and validation).
            ranks: processes that share the visits.
        """

    def show(self, state: R, teachers: Sequence[Teacher], images_per_class: int, rng: Rng) -> list[Recovered]:
        """So many images of the classes of each teacher, without learning from the visit, for people to look at.

        Of many classes `SHOWN` are shown, evenly spread.
        """
        shown = [_spread(len(t.card.class_ids), SHOWN) for t in teachers]
        visits = [Visit(t, labels.repeat(images_per_class)) for t, labels in zip(teachers, shown, strict=True)]
        return self.recover(state, visits, rng=rng, learn=False)


def _spread(classes: int, limit: int) -> Int[Tensor, " shown"]:
    return torch.arange(classes) if classes <= limit else torch.arange(limit) * classes // limit
