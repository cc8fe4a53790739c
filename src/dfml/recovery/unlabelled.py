"""Unlabelled pictures of the user's in the place of recovered images: a setting of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.bounds import Amount, Share
from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.data.unlabelled import UnlabelledImages
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered, UsesData, Visit
from dfml.recovery.by_teacher import ByTeacher, ByTeacherState
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import logit_answers


@dataclass
class UnlabelledState(Canvas):
    """The pictures, and what the visits that recover learn."""

    images: UnlabelledImages
    recovery: ByTeacherState

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Of the visits that recover."""
        return self.recovery.optimiser

    def to(self, device: torch.device) -> None:
        """Move what is learned; pictures are read on the CPU."""
        self.recovery.to(device)

    def state_dict(self) -> dict:
        """What is learned; the pictures stay where they are."""
        return self.recovery.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take over a checkpoint."""
        self.recovery.load_state_dict(state)


class Unlabelled(AbstractRecovery[UnlabelledState]):
    """Pictures that nobody labelled, of whatever classes; each teacher says what it takes them for.

    The idea is that of Sun, Tanaka, Iwata, "Labeled-Data-Free Meta-Learning", 2026, in which tasks of uncertain labels
    and uneven classes count less. Here a visit looks at several times as many pictures as are wanted, and of every
    wanted class takes those of which the teacher is surest, as long as any are left: classes are even, and what no
    class fits is passed over. A picture is labelled as the teacher answers. It is not data-free, and rows say so.

    Args:
        data: a folder of pictures, in folders of it too, or an ``.npz`` file whose labels nobody looks at.
        candidates: times as many pictures are looked at as are wanted; at 1 none is passed over.
        recovered: share of the visits that recover images instead (`ByTeacher`).
    """

    uses_data: ClassVar[UsesData] = "unlabelled"

    def __init__(self, *, data: str = "unlabelled", candidates: Amount = 1, recovered: Share = 0.0):
        self.data, self.candidates, self.recovered = data, candidates, recovered
        self.by_teacher = ByTeacher()

    def requires(self) -> Capability:
        """Labels."""
        return Capability.LABELS

    def init(self, canvas: InputSpec, rng: Rng) -> UnlabelledState:
        """Find the pictures.

        Raises:
            InputError: there are none.
        """
        return UnlabelledState(canvas, UnlabelledImages(self.data, canvas), self.by_teacher.init(canvas, rng))

    def recover(
        self,
        state: UnlabelledState,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Pictures for each visit, or recovered images for a share of them.

        Raises:
            InputError: a picture that cannot be read; it is named.
        """
        by_recovery = torch.rand(len(visits), generator=rng.generator("recovered")) < self.recovered
        group = [visit for visit, recover in zip(visits, by_recovery.tolist(), strict=True) if recover]
        found = self.by_teacher.recover(state.recovery, group, rng=rng, learn=learn, ranks=ranks) if group else []
        recovered = iter(found)
        return [
            next(recovered) if recover else self._looked_up(state, visit, rng.generator("pictures", number))
            for number, (visit, recover) in enumerate(zip(visits, by_recovery.tolist(), strict=True))
        ]

    def _looked_up(self, state: UnlabelledState, visit: Visit, generator: torch.Generator) -> Recovered:
        wanted = len(visit.labels)
        drawn = torch.randint(len(state.images), (wanted * self.candidates,), generator=generator)
        images = send(state.images.batch(drawn), visit.teacher.device)
        sure = _probabilities(visit.teacher, images)
        chosen = surest(sure, visit.labels) if self.candidates > 1 else torch.arange(wanted)
        labels = sure[chosen].argmax(-1)
        agreed = float((labels == visit.labels).float().mean())
        return Recovered(images[send(chosen, images.device)], labels, {"wanted": agreed}, varied=True)


def _probabilities(teacher: Teacher, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
    return logit_answers(teacher, images).float().softmax(-1).cpu()


def surest(probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " wanted"]) -> Int[Tensor, " wanted"]:
    """For each wanted label in turn the image that is most likely of it among those not taken yet.

    Args:
        probabilities: of at least as many images as are wanted.
        labels: that are wanted.

    Returns:
        Numbers of images, all different.
    """
    left = probabilities.clone()
    chosen = torch.empty_like(labels)
    for place, label in enumerate(labels.tolist()):
        best = left[:, label].argmax()
        chosen[place] = best
        left[best] = -1.0
    return chosen
