"""Model inversion by questions alone: a generator for every visit, moved by gradients that finite differences give."""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.bounds import Amount, Positive, StepSize, Weight
from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.priors import boundary_disagreement
from dfml.functional.zeroth_order import random_directions, zeroth_order_gradient
from dfml.nn import InputSpec
from dfml.nn.generators import GeneratorName, build_generator
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered, Visit
from dfml.recovery.engines import BETAS
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import logit_answers

TOGETHER = 5  # directions asked in one go: what is kept of them at once, and what processes share


class ZerothOrder(AbstractRecovery[Canvas]):
    """Inversion of black boxes, of BiDf-MKD (Hu et al., ICML 2023, https://arxiv.org/abs/2305.18413).

    Every visit starts a generator and latent codes anew. The teacher is asked about the augmented images and about
    images moved a little along random directions; the differences of its losses give the gradient with respect to the
    images (`dfml.functional.zeroth_order`), which is carried on through augmentation and generator. The iterate whose
    own loss, as asked, was smallest gives the images.

    A visit of n images asks ``queries_of(n)`` questions: n for each direction and one more in every step, and n at the
    end; 3.03 million for 150 images at the defaults.

    Args:
        generator: ``published`` (2.3 M parameters at 32 pixels) or ``pixelshuffle`` (cheap).
        latent: length of the latent codes.
        steps: of Adam, on generator and codes.
        lr: Adam's step size on the generator.
        latent_lr: Adam's step size on the codes.
        directions: of an image and step (q).
        radius: how far images are moved along a direction, on the canvas, where pixels lie in [0, 1]. The published
            0.005 (of normalised images) drowns in the rounding of answers that come in bfloat16 or with few decimals.
        boundary_weight: of the L1 distance from a student that answers alike, where a visit has one.
        flip: mirror images when augmenting; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
    """

    def __init__(
        self,
        *,
        generator: GeneratorName = "published",
        latent: Amount = 256,
        steps: Amount = 200,
        lr: StepSize = 1e-3,
        latent_lr: StepSize = 1e-3,
        directions: Amount = 100,
        radius: Positive = 0.1,
        boundary_weight: Weight = 1.0,
        flip: bool | None = None,
    ):
        self.generator, self.latent = generator, latent
        self.steps, self.lr, self.latent_lr = steps, lr, latent_lr
        self.directions, self.radius = directions, radius
        self.boundary_weight, self.flip = boundary_weight, flip is not False

    def requires(self) -> Capability:
        """Probabilities: nothing flows back from a teacher."""
        return Capability.PROBABILITIES

    def queries_of(self, images: int) -> int:
        """Questions that a visit of so many images asks."""
        return images * (self.steps * (self.directions + 1) + 1)

    def init(self, canvas: InputSpec, rng: Rng) -> Canvas:
        """The size of the images: nothing is learned from one visit to the next."""
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
        """One visit after the other; processes share the directions of each."""
        return [self._invert(state.spec, visit, rng.at("visit", i), ranks) for i, visit in enumerate(visits)]

    def _invert(self, spec: InputSpec, visit: Visit, rng: Rng, ranks: AbstractRanks) -> Recovered:
        """``steps`` of Adam on a fresh generator and its codes; the images of the best iterate."""
        generator, codes = self._fresh(spec, visit, rng)
        groups = [{"params": list(generator.parameters()), "lr": self.lr}, {"params": [codes], "lr": self.latent_lr}]
        optimiser = torch.optim.Adam(groups, betas=BETAS, foreach=True)
        lowest = float("inf")
        for step in range(self.steps + 1):
            images = generator(codes)
            shown = shift_and_flip(images, rng.generator("augment", step), flip=self.flip)
            ((answers,),) = ranks.map(partial(_ask, visit.teacher), [shown.detach()])
            student = visit.student(shown).float() if visit.student and self.boundary_weight else None
            terms = _terms(answers, visit.labels, student)
            loss = self._total(terms)
            value = float(loss.detach().mean())
            if step == 0 or value < lowest:
                best, lowest = images.detach(), value
                met = {name: float(term.detach().mean()) for name, term in terms.items()}
            if step == self.steps:
                break
            gradient = self._gradient(visit, shown.detach(), loss.detach(), student, rng.at("step", step), ranks)
            optimiser.zero_grad()
            # The teacher's part by the surrogate <x, g>; the student's, which can be looked into, as it is.
            ((shown * gradient).flatten(1).sum(-1) + loss).mean().backward()
            optimiser.step()
        return Recovered(best, visit.labels, met)

    def _fresh(self, spec: InputSpec, visit: Visit, rng: Rng) -> tuple[nn.Module, Tensor]:
        with rng.seeded("generator"):
            generator = build_generator(self.generator, latent=self.latent, size=spec.size, channels=spec.channels)
        codes = torch.randn(len(visit.labels), self.latent, generator=rng.generator("codes"))
        return generator.to(visit.teacher.device), send(codes, visit.teacher.device).requires_grad_()

    @torch.no_grad()
    def _gradient(
        self,
        visit: Visit,
        shown: Float[Tensor, "n c h w"],
        before: Float[Tensor, " n"],
        student: Tensor | None,
        rng: Rng,
        ranks: AbstractRanks,
    ) -> Float[Tensor, "n c h w"]:
        """The mean over all directions, `TOGETHER` of them at a time, while the student's answers stay."""

        def estimate(first: int) -> list[Tensor]:
            count = min(TOGETHER, self.directions - first)
            drawn = send(random_directions(count, shown.shape, rng.generator("directions", first)), shown.device)
            (answers,) = _ask(visit.teacher, (shown + self.radius * drawn).flatten(0, 1))
            after = self._total(_terms(answers.unflatten(0, (count, -1)), visit.labels, student))
            return [zeroth_order_gradient(before, after, drawn, self.radius) * (count / self.directions)]

        parts = ranks.map(estimate, range(0, self.directions, TOGETHER))
        return torch.stack([part for (part,) in parts]).sum(0)

    def _total(self, terms: dict[str, Tensor]) -> Tensor:
        return terms["class"] + self.boundary_weight * terms["boundary"] if "boundary" in terms else terms["class"]


def _ask(teacher: Teacher, images: Tensor) -> list[Tensor]:
    return [logit_answers(teacher, images).float()]


def _terms(
    answers: Float[Tensor, "*moved n classes"], labels: Int[Tensor, " n"], student: Float[Tensor, "n classes"] | None
) -> dict[str, Tensor]:
    """The un-weighted loss terms of every image, and of every image moved."""
    wanted = send(labels, answers.device).expand(answers.shape[:-1])
    terms = {"class": -answers.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]}
    if student is not None:
        terms["boundary"] = boundary_disagreement(answers, student.expand_as(answers))
    return terms
