"""Faster inversion via meta-generator: one generator that adapts to any teacher in a few steps."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import inner_product_distillation
from dfml.functional.priors import BatchNormStatistics, batchnorm_alignment, batchnorm_norms, class_prior, disagreement
from dfml.nn import InputSpec
from dfml.nn.generators import GeneratorName, build_generator
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Recovered, Student
from dfml.recovery.engines import BETAS, ENGINES, Visit
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher

CLASS_STRENGTH = 5.0  # length of a class's direction, in standard deviations of a latent code


class MetaGenerator(AbstractRecovery):
    """FIVE of FREE (Wei et al., CVPR 2024, "Faster and Better Data-Free Meta-Learning").

    Each teacher is a task. The generator and its latent codes take a few Adam steps on the teacher's losses; the
    adapted generator gives the images, and the gradient at its parameters moves the shared one (FOMAML), or the
    distance travelled does (Reptile). So that the next teacher needs few steps too.

    Args:
        generator: ``pixelshuffle`` (cheap) or ``published`` (2.3 M parameters at 32 pixels).
        latent: length of the latent codes.
        conditional: add a fixed direction per wanted class to the codes, the same for every teacher that knows the
            class, so that the shared generator can learn what a class looks like; False as in the published code.
        steps: inner steps a visit (k = 5 in the paper).
        lr: inner Adam's step size on the generator (FastDFKD's value for five steps).
        latent_lr: inner Adam's step size on the codes (FastDFKD; the published 0.001 leaves them where they were).
        meta: how the shared generator learns from a visit.
        meta_lr: step size of the meta-optimiser (over a zoo of 100 teachers the class loss rises again from 0.005 on).
        class_weight: of the class prior.
        bn_weight: of BatchNorm alignment; 0 for teachers without BN statistics.
        bn_form: ``relative`` carries over between architectures; ``norms`` is DeepInversion's sum of norms.
        adversarial_weight: of the disagreement with the student.
        adversarial_form: ``kl`` is the equation; ``inner_product`` what the published code computes (student fixed).
        flip: mirror images when augmenting; False where mirroring changes the class, as for characters.
        augment_per_sample: False takes one crop and flip for the whole batch, as the published code does.
        persistent_optimiser: False makes a new meta-optimiser every call, as the published code does.
        engine: ``loop`` or ``batched`` (`dfml.recovery.engines`); None is the loop on a CPU, batched elsewhere.
        last_step: False reads images and meta-gradient before the last inner step, as the published code does.
    """

    requires: ClassVar[Capability] = Capability.LOGITS | Capability.GRADIENTS

    def __init__(
        self,
        *,
        generator: GeneratorName = "pixelshuffle",
        latent: int = 256,
        conditional: bool = True,
        steps: int = 5,
        lr: float = 3e-3,
        latent_lr: float = 0.015,
        meta: Literal["fomaml", "reptile"] = "fomaml",
        meta_lr: float = 2e-3,
        class_weight: float = 1.0,
        bn_weight: float = 1.0,
        bn_form: Literal["relative", "norms"] = "relative",
        adversarial_weight: float = 1.0,
        adversarial_form: Literal["kl", "inner_product"] = "kl",
        flip: bool = True,
        augment_per_sample: bool = True,
        persistent_optimiser: bool = True,
        last_step: bool = True,
        engine: Literal["loop", "batched"] | None = None,
    ):
        self.generator_name, self.latent, self.conditional, self.steps = generator, latent, conditional, steps
        self.lr, self.latent_lr, self.meta, self.meta_lr = lr, latent_lr, meta, meta_lr
        self.weights = {"class": class_weight, "bn": bn_weight, "adversarial": adversarial_weight}
        self.bn_form, self.adversarial_form = bn_form, adversarial_form
        self.flip, self.augment_per_sample = flip, augment_per_sample
        self.persistent_optimiser, self.last_step, self.engine = persistent_optimiser, last_step, engine

    def prepare(self, spec: InputSpec, rng: Rng) -> None:
        """Create the generator and its meta-optimiser."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.integer("generator"))
            self.generator: nn.Module = build_generator(
                self.generator_name, latent=self.latent, size=spec.size, channels=spec.channels
            )
        self._new_optimiser()

    def to(self, device: torch.device) -> None:
        """Move the generator."""
        self.generator.to(device)

    def _new_optimiser(self) -> None:
        self.optimiser = torch.optim.Adam(self.generator.parameters(), lr=self.meta_lr, betas=BETAS)

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
        """Visit each teacher from the shared generator, then take one meta-step over all visits."""
        if not self.persistent_optimiser:
            self._new_optimiser()
        asked = students if self.weights["adversarial"] else None  # a student that no weight asks for is not passed
        visits = self._visits(teachers, labels, asked or [None] * len(teachers), rng, ranks)
        if learn:
            self._meta_step([gradient for _, _, *gradient in visits])
        return [
            Recovered(images, wanted, dict(zip(self._term_names, terms.tolist(), strict=True)))
            for (images, terms, *_), wanted in zip(visits, labels, strict=True)
        ]

    def _visits(
        self,
        teachers: Sequence[Teacher],
        labels: Sequence[Tensor],
        students: Sequence[Student | None],
        rng: Rng,
        ranks: AbstractRanks,
    ) -> list[list[Tensor]]:
        """For each teacher the images, the loss terms, and what the visit says to the shared parameters."""
        cpu = next(self.generator.parameters()).device.type == "cpu"
        engine = ENGINES[self.engine or ("loop" if cpu else "batched")]

        def visit(group: list[int]) -> list[Tensor]:
            asked = [[values[i] for i in group] for values in (teachers, labels, students)]
            visits = engine.visit(self, *asked, [rng.at("visit", i) for i in group])  # type: ignore[arg-type, call-arg]
            seen = []
            for v in visits:
                seen += [v.images, torch.stack([v.terms[name] for name in self._term_names]), *self._meta(v)]
            return seen

        groups = engine.groups(len(teachers), ranks.world)
        visits: list[list[Tensor]] = [[]] * len(teachers)
        for group, parts in zip(groups, ranks.map(visit, groups), strict=True):
            each = len(parts) // len(group)
            for k, i in enumerate(group):
                visits[i] = parts[k * each : (k + 1) * each]
        return visits

    @property
    def _term_names(self) -> list[str]:
        return [name for name, weight in self.weights.items() if name == "class" or weight]

    def _meta_step(self, gradients: list[list[Tensor]]) -> None:
        shared = list(self.generator.parameters())
        mean = [torch.zeros_like(p) for p in shared]
        for gradient in gradients:
            torch._foreach_add_(mean, gradient, alpha=1 / len(gradients))
        for p, g in zip(shared, mean, strict=True):
            p.grad = g
        self.optimiser.step()
        self.optimiser.zero_grad()

    def _meta(self, visit: Visit) -> list[Tensor]:
        """What a visit says to the shared parameters."""
        return visit.gradient if self.meta == "fomaml" else [m / (self.steps * self.lr) for m in visit.moved]

    def codes(self, teacher: Teacher, labels: Int[Tensor, " n"], rng: Rng) -> Float[Tensor, "n latent"]:
        """Random codes, with the directions of the wanted classes."""
        codes = torch.randn(len(labels), self.latent, generator=rng.generator("codes"))
        if self.conditional:
            codes += torch.stack([self._direction(c) for c in teacher.card.class_ids])[labels]
        return codes

    def _direction(self, class_id: str) -> Float[Tensor, " latent"]:
        """Random directions of so many dimensions are nearly orthogonal, so no list of classes is needed or kept."""
        random = torch.randn(self.latent, generator=Rng(0).generator("class direction", class_id))
        return CLASS_STRENGTH * random / random.norm()

    def augment(self, images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Shifted and mirrored."""
        return shift_and_flip(images, generator, flip=self.flip, per_sample=self.augment_per_sample)

    def terms(
        self,
        seen: Float[Tensor, "n c h w"],
        logits: Float[Tensor, "n classes"],
        statistics: Sequence[BatchNormStatistics],
        labels: Int[Tensor, " n"],
        student: Student | None,
    ) -> dict[str, Tensor]:
        """The un-weighted loss terms on augmented images; a term of weight 0 is left out."""
        terms = {}
        if self.weights["bn"]:
            terms["bn"] = (batchnorm_alignment if self.bn_form == "relative" else batchnorm_norms)(statistics)
        terms["class"] = class_prior(logits, labels)
        if self.weights["adversarial"] and student is None:
            terms["adversarial"] = terms["class"] * 0  # skipped: there is no learner to disagree with yet
        elif self.weights["adversarial"] and student is not None:
            if self.adversarial_form == "kl":
                terms["adversarial"] = disagreement(logits, student(seen).float())
            else:
                terms["adversarial"] = _published_disagreement(logits, student(seen).detach().float())
        return terms

    def state_dict(self) -> dict[str, Any]:
        """Generator and meta-optimiser."""
        return {"generator": self.generator.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.generator.load_state_dict(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])


def _published_disagreement(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """kl_div fed with probabilities and a fixed student: only <p_T, p_S> moves the images."""
    agree = teacher_logits.argmax(-1) == student_logits.argmax(-1)
    if not agree.any():
        return teacher_logits.sum() * 0
    return -inner_product_distillation(student_logits[agree], teacher_logits[agree])
