"""Faster inversion via meta-generator: one generator that adapts to any teacher in a few steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.bounds import Amount, StepSize, Weight
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.priors import batchnorm_alignment, class_prior, disagreement
from dfml.nn import InputSpec
from dfml.nn.generators import GeneratorName, build_generator
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Recovered, Student, Visit
from dfml.recovery.engines import BETAS, ENGINES, AbstractEngine
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Forward, Teacher

CLASS_STRENGTH = 5.0  # length of a class's direction, in standard deviations of a latent code


@dataclass
class MetaGeneratorState:
    """The shared generator and its meta-optimiser."""

    generator: nn.Module
    optimiser: torch.optim.Optimizer

    def follow(self, directions: Sequence[list[Tensor]]) -> None:
        """One meta-step along the mean of these directions, each a tensor a parameter."""
        mean = [torch.zeros_like(p) for p in self.generator.parameters()]
        for direction in directions:
            torch._foreach_add_(mean, direction, alpha=1 / len(directions))
        for p, g in zip(self.generator.parameters(), mean, strict=True):
            p.grad = g
        self.optimiser.step()
        self.optimiser.zero_grad()

    def to(self, device: torch.device) -> None:
        """Move the generator."""
        self.generator.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Generator and meta-optimiser."""
        return {"generator": self.generator.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.generator.load_state_dict(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])


class MetaGenerator(AbstractRecovery[MetaGeneratorState]):
    """FIVE of FREE (Wei et al., CVPR 2024, "Faster and Better Data-Free Meta-Learning").

    Each teacher is a task. The generator and its latent codes take a few Adam steps on the teacher's losses; the
    adapted generator gives the images, and the gradient at its parameters moves the shared one (FOMAML), or the
    distance travelled does (Reptile). So that the next teacher needs few steps too.

    Args:
        generator: ``pixelshuffle`` (cheap) or ``published`` (2.3 M parameters at 32 pixels).
        latent: length of the latent codes.
        conditional: add a fixed direction per wanted class to the codes, the same for every teacher that knows the
            class, so that the shared generator can learn what a class looks like.
        steps: inner steps a visit (k = 5 in the paper).
        lr: inner Adam's step size on the generator (FastDFKD's value for five steps).
        latent_lr: inner Adam's step size on the codes (FastDFKD; the published 0.001 leaves them where they were).
        meta: how the shared generator learns from a visit.
        meta_lr: step size of the meta-optimiser (over a zoo of 100 teachers the class loss rises again from 0.005 on).
        class_weight: of the class prior.
        bn_weight: of BatchNorm alignment, with teachers that have BatchNorm.
        adversarial_weight: of the disagreement with the student.
        flip: mirror images when augmenting; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
        engine: ``loop`` or ``batched`` (`dfml.recovery.engines`); None is the loop on a CPU, batched elsewhere.
    """

    def __init__(
        self,
        *,
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
        adversarial_weight: Weight = 1.0,
        flip: bool | None = None,
        engine: Literal["loop", "batched"] | None = None,
    ):
        self.generator, self.latent, self.conditional = generator, latent, conditional
        self.steps, self.lr, self.latent_lr = steps, lr, latent_lr
        self.meta, self.meta_lr = meta, meta_lr
        self.weights = {"class": class_weight, "bn": bn_weight, "adversarial": adversarial_weight}
        self.flip, self.engine = flip is not False, engine

    def requires(self) -> Capability:
        """Gradients of the logits; layer statistics are aligned where a teacher has them."""
        return Capability.LOGITS | Capability.GRADIENTS

    def init(self, canvas: InputSpec, rng: Rng) -> MetaGeneratorState:
        """A random generator and its meta-optimiser."""
        with rng.seeded("generator"):
            generator = build_generator(self.generator, latent=self.latent, size=canvas.size, channels=canvas.channels)
        optimiser = torch.optim.Adam(generator.parameters(), lr=self.meta_lr, betas=BETAS)
        return MetaGeneratorState(generator, optimiser)

    def recover(
        self,
        state: MetaGeneratorState,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Visit each teacher from the shared generator, then take one meta-step over all visits."""
        cpu = next(state.generator.parameters()).device.type == "cpu"
        engine = ENGINES[self.engine or ("loop" if cpu else "batched")]
        groups = engine.groups(len(visits), ranks.world)
        told = ranks.map(partial(self._told, engine, state, visits, rng), groups)
        readings: list[list[Tensor]] = [[]] * len(visits)
        for group, parts in zip(groups, told, strict=True):
            each = len(parts) // len(group)
            for k, i in enumerate(group):
                readings[i] = parts[k * each : (k + 1) * each]
        if learn:
            state.follow([direction for _, _, *direction in readings])
        return [
            Recovered(images, visit.labels, dict(zip(self._term_names, terms.tolist(), strict=True)))
            for (images, terms, *_), visit in zip(readings, visits, strict=True)
        ]

    def _told(
        self, engine: AbstractEngine, state: MetaGeneratorState, visits: Sequence[Visit], rng: Rng, group: list[int]
    ) -> list[Tensor]:
        """Of each visit of a group the images, the loss terms, and where the shared parameters should go."""
        asked = list(visits) if self.weights["adversarial"] else [Visit(v.teacher, v.labels) for v in visits]
        told = []
        for reading in engine.read(
            self, state.generator, [asked[i] for i in group], [rng.at("visit", i) for i in group]
        ):
            told += [reading.images, torch.stack([reading.terms[name] for name in self._term_names])]
            told += reading.gradient if self.meta == "fomaml" else [m / (self.steps * self.lr) for m in reading.moved]
        return told

    @property
    def _term_names(self) -> list[str]:
        return [name for name, weight in self.weights.items() if name == "class" or weight]

    def codes(self, teacher: Teacher, labels: Int[Tensor, " n"], rng: Rng) -> Float[Tensor, "n latent"]:
        """Random codes, with the directions of the wanted classes."""
        codes = torch.randn(len(labels), self.latent, generator=rng.generator("codes"))
        if self.conditional:
            wanted, places = labels.unique(return_inverse=True)
            codes += torch.stack([self._direction(teacher.card.class_ids[c]) for c in wanted.tolist()])[places]
        return codes

    def _direction(self, class_id: str) -> Float[Tensor, " latent"]:
        """Random directions of so many dimensions are nearly orthogonal, so no list of classes is needed or kept."""
        random = torch.randn(self.latent, generator=Rng(0).generator("class direction", class_id))
        return CLASS_STRENGTH * random / random.norm()

    def augment(self, images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Shifted and mirrored."""
        return shift_and_flip(images, generator, flip=self.flip)

    def terms(
        self, shown: Float[Tensor, "n c h w"], seen: Forward, labels: Int[Tensor, " n"], student: Student | None
    ) -> dict[str, Tensor]:
        """The un-weighted loss terms on augmented images; a term of weight 0 is left out."""
        terms, logits = {}, seen.logits.float()
        if self.weights["bn"]:
            terms["bn"] = batchnorm_alignment(seen.statistics) if seen.statistics else logits.sum() * 0
        terms["class"] = class_prior(logits, labels)
        if self.weights["adversarial"] and student is None:
            terms["adversarial"] = terms["class"] * 0  # skipped: there is no learner to disagree with yet
        elif self.weights["adversarial"] and student is not None:
            terms["adversarial"] = disagreement(logits, student(shown).float())
        return terms
