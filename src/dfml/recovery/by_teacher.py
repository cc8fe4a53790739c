"""From each teacher in the way that suits it, found by trying."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

import torch

from dfml.bounds import Amount, Count, Share, StepSize, Weight
from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.nn import InputSpec
from dfml.nn.generators import GeneratorName
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered, Visit, above_chance
from dfml.recovery.deep_inversion import DeepInversion
from dfml.recovery.drawn_images import DrawnImages
from dfml.recovery.meta_generator import MetaGenerator, MetaGeneratorState
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher

PEERS = 3  # asked about the images of a visit at most
WITHOUT_STATISTICS = 0.5  # share of visits by pixels: the generator's images of such teachers teach less
Way = Literal["meta_generator", "pixels", "drawn"]


@dataclass
class ByTeacherState:
    """The meta-generator, and what was found of each teacher."""

    canvas: Canvas
    meta_generator: MetaGeneratorState
    visits: int = 0  # that the meta-generator learned from
    ways: dict[str, Way] = field(default_factory=dict)  # teacher -> settled
    found: dict[str, dict[str, float]] = field(default_factory=dict)  # teacher -> why

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The meta-generator's."""
        return self.meta_generator.optimiser

    def to(self, device: torch.device) -> None:
        """Move the generator."""
        self.meta_generator.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Generator, and what was found."""
        found = {"visits": self.visits, "ways": dict(self.ways), "found": copy.deepcopy(self.found)}
        return {"meta_generator": self.meta_generator.state_dict()} | found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.meta_generator.load_state_dict(state["meta_generator"])
        self.visits, self.ways = state["visits"], dict(state["ways"])
        self.found = copy.deepcopy(state["found"])


class ByTeacher(AbstractRecovery[ByTeacherState]):
    """The meta-generator where it is good enough, pixels from natural noise where it is not, drawn images for the rest.

    The meta-generator takes part in every teacher's first visits. At the next visit after it has learned from
    ``trials`` of them, a teacher is settled on pixels (`DeepInversion` from natural noise) where too few images are in
    the wanted class, as the teacher sees them or as its peers do (others that know the class); the others stay. A
    teacher without gradients gets drawn images. A step says what it found (``wanted``, and ``recognised`` where there
    are peers), and the shares of its visits by ``pixels`` and ``drawn``.

    Args:
        only: way for all teachers with gradients; None finds it for each.
        trials: visits that the meta-generator learns from before it is judged.
        enough: share of images in the wanted class with which it stays.
        enough_recognised: of them in that class for its peers, above chance, with which it stays.
        pixel_share: of the visits to teachers that stay with the meta-generator, those by pixels all the same: images
            of two kinds teach more than as many of one. Half of the visits to teachers without BatchNorm at least.
        pixel_steps: of Adam on pixels.
        pixel_lr: its step size.
        pixel_classes: classes of a visit by pixels, which takes so much longer; the first of those wanted.
        generator: this and all that follow are the meta-generator's (`MetaGenerator`).
        latent: see there.
        conditional: see there.
        steps: see there.
        lr: see there.
        latent_lr: see there.
        meta: see there.
        meta_lr: see there.
        class_weight: see there.
        bn_weight: see there.
        adversarial_weight: see there.
        flip: see there; holds for pixels, too.
        engine: see there.
    """

    def __init__(
        self,
        *,
        only: Way | None = None,
        trials: Count = 12,
        enough: Share = 0.5,
        enough_recognised: Share = 0.1,
        pixel_share: Share = 0.0,
        pixel_steps: Amount = 66,
        pixel_lr: StepSize = 0.05,
        pixel_classes: Amount = 5,
        generator: GeneratorName = "pixelshuffle",
        latent: Amount = 256,
        conditional: bool = True,
        steps: Amount = 5,
        lr: StepSize = 3e-3,
        latent_lr: StepSize = 0.015,
        meta: Literal["fomaml", "reptile"] = "fomaml",
        meta_lr: StepSize = 2e-3,
        class_weight: Weight = 1.0,
        bn_weight: Weight = 1.0,
        adversarial_weight: Weight = 0.0,
        flip: bool | None = None,
        engine: Literal["loop", "batched"] | None = None,
    ):
        self.only, self.trials, self.pixel_classes, self.pixel_share = only, trials, pixel_classes, pixel_share
        self.enough, self.enough_recognised = enough, enough_recognised
        self.meta_generator = MetaGenerator(
            generator=generator,
            latent=latent,
            conditional=conditional,
            steps=steps,
            lr=lr,
            latent_lr=latent_lr,
            meta=meta,
            meta_lr=meta_lr,
            class_weight=class_weight,
            bn_weight=bn_weight,
            adversarial_weight=adversarial_weight,
            flip=flip,
            engine=engine,
        )
        self.pixels = DeepInversion(start="natural", steps=pixel_steps, lr=pixel_lr, flip=flip)
        self.drawn = DrawnImages()

    def requires(self) -> Capability:
        """Labels; with gradients more is made of a teacher."""
        return Capability.LABELS

    def asks(self, able: Capability) -> bool:
        """Where gradients flow."""
        return Capability.GRADIENTS | Capability.LOGITS in able

    def init(self, canvas: InputSpec, rng: Rng) -> ByTeacherState:
        """A random generator, and nothing found."""
        return ByTeacherState(Canvas(canvas), self.meta_generator.init(canvas, rng))

    def way_of(self, state: ByTeacherState, visit: Visit) -> Way:
        """How this teacher is visited now."""
        if not self.asks(visit.teacher.capabilities):
            return "drawn"
        return self.only or state.ways.get(visit.teacher.card.id, "meta_generator")

    def recover(
        self,
        state: ByTeacherState,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Each teacher in its way."""
        ways = [self.way_of(state, visit) for visit in visits]
        if learn and not self.only:
            shares = torch.tensor([self._share(visit.teacher) for visit in visits])
            drawn = torch.rand(len(visits), generator=rng.generator("share")) < shares
            ways = [
                "pixels" if by_pixels and way == "meta_generator" else way
                for way, by_pixels in zip(ways, drawn.tolist(), strict=True)
            ]
        found: dict[int, Recovered] = {}
        for way in sorted(set(ways)):
            numbers = [i for i, each in enumerate(ways) if each == way]
            group = [visits[i] for i in numbers]
            at = rng.at(way)
            if way == "meta_generator":
                shown = self.meta_generator.recover(state.meta_generator, group, rng=at, learn=learn, ranks=ranks)
                state.visits += len(group) if learn else 0
            elif way == "pixels":
                group = [self._fewer(visit) if learn else visit for visit in group]
                shown = self.pixels.recover(state.canvas, group, rng=at, learn=learn, ranks=ranks)
            else:
                shown = self.drawn.recover(state.canvas, group, rng=at, learn=learn, ranks=ranks)
            for i, visit, recovered in zip(numbers, group, shown, strict=True):
                trial = self._settle(state, visit, recovered) if learn and way == "meta_generator" else {}
                share = {"pixels": float(way == "pixels"), "drawn": float(way == "drawn")}
                found[i] = replace(recovered, terms=recovered.terms | trial | share)
        return [found[i] for i in range(len(visits))]

    def _share(self, teacher: Teacher) -> float:
        """Of the visits to a teacher that stays with the meta-generator, those by pixels."""
        known = Capability.BN_STATISTICS in teacher.capabilities
        return self.pixel_share if known else max(self.pixel_share, WITHOUT_STATISTICS)

    def _fewer(self, visit: Visit) -> Visit:
        classes = visit.labels.unique()[: self.pixel_classes]
        return replace(visit, labels=visit.labels[torch.isin(visit.labels, classes)])

    def _settle(self, state: ByTeacherState, visit: Visit, shown: Recovered) -> dict[str, float]:
        """Judge the meta-generator's images of a teacher once it has learned from enough visits; what was found."""
        name = visit.teacher.card.id
        if self.only or name in state.ways or state.visits <= self.trials:
            return {}
        found = {"wanted": _wanted(visit.teacher, shown)}
        looks = [_recognised(visit.teacher, peer, shown) for peer in visit.peers[:PEERS]]
        if seen := [look for look in looks if look is not None]:
            found["recognised"] = fmean(seen)
        good = found["wanted"] >= self.enough and found.get("recognised", 1.0) >= self.enough_recognised
        state.ways[name], state.found[name] = "meta_generator" if good else "pixels", found
        return found


def _wanted(teacher: Teacher, shown: Recovered) -> float:
    """Share of the images that their teacher sees in the class that was asked for."""
    seen = teacher.answers(shown.images, "labels")
    return float((seen == send(shown.labels, seen.device)).float().mean()) if len(seen) else 0.0


def _recognised(teacher: Teacher, peer: Teacher, shown: Recovered) -> float | None:
    """Share of the images of classes that both know which the peer sees in theirs, above chance; None without any."""
    place_of = {class_id: place for place, class_id in enumerate(peer.card.class_ids)}
    places = torch.tensor([place_of.get(teacher.card.class_ids[label], -1) for label in shown.labels.tolist()])
    known = places >= 0
    if not bool(known.any()):
        return None
    seen = peer.answers(shown.images[send(known, shown.images.device)], "labels")
    return above_chance(float((seen == send(places[known], seen.device)).float().mean()), len(place_of))
