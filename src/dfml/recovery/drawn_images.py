"""Drawn images: the floor that needs nothing of a teacher but its labels."""

from collections.abc import Sequence

from torch import Tensor

from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.drawing import dead_leaves
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered, Visit
from dfml.zoo.card import Capability


class DrawnImages(AbstractRecovery[Canvas]):
    """Nothing is recovered: overlapping shapes are drawn (`dfml.functional.drawing`), and the teacher names them.

    The labels of the images are those that the teacher gives them, whatever was wanted: a black box cannot be asked
    for images of a class. It is not asked for those that nobody wants to know (`Visit.named`).
    """

    def requires(self) -> Capability:
        """Labels."""
        return Capability.LABELS

    def asks(self, able: Capability) -> bool:
        """Never."""
        return False

    def init(self, canvas: InputSpec, rng: Rng) -> Canvas:
        """The size of the images."""
        return Canvas(canvas)

    def recover(
        self,
        state: Canvas,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """As many images as labels are wanted, for each teacher others."""
        spec, drawn = state.spec, []
        for number, visit in enumerate(visits):
            generator = rng.at("visit", number).generator("drawn")
            images = dead_leaves(len(visit.labels), spec.channels, spec.size, generator)
            drawn.append(send(images, visit.teacher.device))

        def named(number: int) -> list[Tensor]:
            visit = visits[number]
            if not visit.named:
                return [send(visit.labels, visit.teacher.device).float()]
            return [visit.teacher.answers(drawn[number], "labels").float()]

        said = ranks.map(named, range(len(visits)))
        return [
            Recovered(images, labels.to(visit.labels), {"class": 0.0})
            for images, (labels,), visit in zip(drawn, said, visits, strict=True)
        ]
