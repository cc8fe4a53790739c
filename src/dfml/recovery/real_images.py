"""Real images in the place of recovered ones: an oracle, not a data-free way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.data import ImageSet, load_data
from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered, UsesData, Visit
from dfml.zoo.card import Capability


@dataclass
class RealImagesState(Canvas):
    """The images, which stay in memory, and those of each class; nothing is learned."""

    images: ImageSet
    members: dict[str, Tensor]


class RealImages(AbstractRecovery):
    """Shows random training images of each teacher's classes: any method with it is its own oracle A.

    Args:
        data: what the zoo was built from; its train part is read.
    """

    uses_data: ClassVar[UsesData] = True

    def __init__(self, *, data: str = "glyphs"):
        self.data = data

    def requires(self) -> Capability:
        """Nothing: the teachers are not asked."""
        return Capability(0)

    def init(self, canvas: InputSpec, rng: Rng) -> RealImagesState:
        """Read the images.

        Raises:
            InputError: see `dfml.data.load_data`.
        """
        images = load_data(self.data, size=canvas.size).train
        members = {name: (images.labels == c).nonzero()[:, 0] for c, name in enumerate(images.class_names)}
        return RealImagesState(canvas, images, members)

    def recover(
        self,
        state: RealImagesState,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Random images of the wanted classes, with replacement.

        Raises:
            InputError: a teacher knows a class that the data lacks.
        """
        shown = []
        for i, visit in enumerate(visits):
            card, g = visit.teacher.card, rng.generator("real", i)
            if missing := sorted(set(card.class_names) - set(state.members)):
                raise InputError(
                    f"{card.id} knows {', '.join(missing)}, which {state.images.name} lacks",
                    "the data that the zoo was built from",
                    "give it as data",
                )
            members = [state.members[card.class_names[c]] for c in visit.labels.tolist()]
            drawn = torch.stack([m[torch.randint(len(m), (), generator=g)] for m in members])
            images = send(state.images.batch(drawn), visit.teacher.device)
            shown.append(Recovered(state.spec.fit(images), visit.labels, {}))
        return shown
