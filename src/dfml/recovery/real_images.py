"""Real images in the place of recovered ones: an oracle, not a data-free way."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.data import load_data
from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Recovered, Student
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher


class RealImages(AbstractRecovery):
    """Shows random training images of each teacher's classes: any method with it is its own oracle A.

    Args:
        data: what the zoo was built from; its train part is read.
    """

    requires: ClassVar[Capability] = Capability(0)
    uses_data: ClassVar[bool] = True

    def __init__(self, *, data: str = "glyphs"):
        self.data = data

    def prepare(self, spec: InputSpec, rng: Rng) -> None:
        """Read the images.

        Raises:
            InputError: see `dfml.data.load_data`.
        """
        images = load_data(self.data, size=spec.size).train
        self.images, self.spec = images, spec
        self.members = {name: (images.labels == c).nonzero()[:, 0] for c, name in enumerate(images.class_names)}

    def to(self, device: torch.device) -> None:
        """The images stay in memory; those that are shown go to their teacher's device."""

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
        """Random images of the wanted classes, with replacement.

        Raises:
            InputError: a teacher knows a class that the data lacks.
        """
        shown = []
        for i, (teacher, wanted) in enumerate(zip(teachers, labels, strict=True)):
            g, names = rng.generator("real", i), teacher.card.class_names
            missing = sorted(set(names) - set(self.members))
            if missing:
                raise InputError(
                    f"{teacher.card.id} knows {', '.join(missing)}, which {self.images.name} lacks",
                    "the data that the zoo was built from",
                    "give it with --recovery.data",
                )
            members = [self.members[names[c]] for c in wanted.tolist()]
            drawn = torch.stack([m[torch.randint(len(m), (), generator=g)] for m in members])
            images = send(self.images.batch(drawn), teacher.device)
            shown.append(Recovered(self.spec.fit(images), wanted, {}))
        return shown

    def state_dict(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is learned."""
