"""How visits to several teachers are computed: one after the other, or all at once. The numbers are the same."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dfml.compute.devices import send
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery.base import Student, Visit
from dfml.zoo.stacked import StackedTeachers, can_stack
from dfml.zoo.teacher import Forward, Teacher

BETAS = (0.5, 0.999)  # of every Adam here, as in the published code


@dataclass(frozen=True)
class Reading:
    """Images of the adapted generator, un-weighted terms there, and the gradient at the adapted parameters."""

    images: Float[Tensor, "n c h w"]
    terms: dict[str, Tensor]
    gradient: list[Tensor]
    moved: list[Tensor]
    """The shared parameters minus the adapted ones."""


@runtime_checkable
class Inversion(Protocol):
    """What an engine asks of the meta-generator."""

    steps: int
    lr: float
    latent_lr: float
    weights: dict[str, float]

    def codes(self, teacher: Teacher, labels: Int[Tensor, " n"], rng: Rng) -> Float[Tensor, "n latent"]:
        """Latent codes to start from."""

    def augment(self, images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """What a teacher is shown of the images."""

    def terms(
        self, shown: Float[Tensor, "n c h w"], seen: Forward, labels: Int[Tensor, " n"], student: Student | None
    ) -> dict[str, Tensor]:
        """The un-weighted loss terms of one teacher, from what it was shown and what it made of that."""


class AbstractEngine(ABC):
    """Computes visits."""

    @abstractmethod
    def read(
        self, inversion: Inversion, generator: nn.Module, visits: Sequence[Visit], rngs: Sequence[Rng]
    ) -> list[Reading]:
        """Adapt a copy of the shared generator to each teacher by ``steps`` of Adam, and read it there."""

    @abstractmethod
    def groups(self, visits: int, world: int) -> list[list[int]]:
        """Numbers of the visits that one call takes together, for ``world`` processes to share."""


class LoopEngine(AbstractEngine):
    """One teacher after the other: what a CPU does best."""

    def read(
        self, inversion: Inversion, generator: nn.Module, visits: Sequence[Visit], rngs: Sequence[Rng]
    ) -> list[Reading]:
        """See `AbstractEngine.read`."""
        readings = []
        for visit, rng in zip(visits, rngs, strict=True):
            alone = _Alone(inversion, generator, visit, rng)
            images, (terms,), gradient = _adapt(inversion, alone.parameters, alone.codes, alone)
            moved = [p.detach() - q.detach() for p, q in zip(generator.parameters(), alone.parameters, strict=True)]
            readings.append(Reading(images.detach(), _detached(terms), gradient, moved))
        return readings

    def groups(self, visits: int, world: int) -> list[list[int]]:
        """Each alone."""
        return [[i] for i in range(visits)]


class _Alone:
    """A copy of the shared generator for one teacher; called, it gives its images and the teacher's terms."""

    def __init__(self, inversion: Inversion, generator: nn.Module, visit: Visit, rng: Rng):
        self.inversion, self.generator, self.visit, self.rng = inversion, generator, visit, rng
        self.names = [name for name, _ in generator.named_parameters()]
        self.parameters = [p.detach().clone().requires_grad_() for p in generator.parameters()]
        device = visit.teacher.device
        self.codes = send(inversion.codes(visit.teacher, visit.labels, rng), device).requires_grad_()
        self.labels = send(visit.labels, device)

    def __call__(self, step: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        with mixed_precision():
            parameters = dict(zip(self.names, self.parameters, strict=True))
            images = functional_call(self.generator, parameters, (self.codes,)).float()
            shown = self.inversion.augment(images, self.rng.generator("augment", step))
            seen = self.visit.teacher.forward(shown, statistics=bool(self.inversion.weights["bn"]))
            return images, [self.inversion.terms(shown, seen, self.labels, self.visit.student)]


def _detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in terms.items()}


def _adapt(
    inversion: Inversion,
    adapted: list[Tensor],
    codes: Tensor,
    terms_at: Callable[[int], tuple[Tensor, list[dict[str, Tensor]]]],
) -> tuple[Tensor, list[dict[str, Tensor]], list[Tensor]]:
    """k steps of Adam, in place, then one reading at theta_k: images, each teacher's terms, and the gradient there."""
    groups = [{"params": adapted, "lr": inversion.lr}, {"params": [codes], "lr": inversion.latent_lr}]
    inner = torch.optim.Adam(groups, betas=BETAS, foreach=True)
    for step in range(inversion.steps + 1):
        images, terms = terms_at(step)
        total = torch.stack([inversion.weights[name] * v for one in terms for name, v in one.items()]).sum()
        *gradient, codes.grad = torch.autograd.grad(total, [*adapted, codes])
        if step == inversion.steps:
            break
        for p, g in zip(adapted, gradient, strict=True):
            p.grad = g
        inner.step()
    return images, terms, gradient


class BatchedEngine(AbstractEngine):
    """All teachers at once, their generators' parameters stacked: what a GPU does best.

    Teachers that cannot be stacked (`can_stack`) and uneven labels are left to the loop. A student answers on one
    teacher's images after the other: its heads differ from teacher to teacher.
    """

    def read(
        self, inversion: Inversion, generator: nn.Module, visits: Sequence[Visit], rngs: Sequence[Rng]
    ) -> list[Reading]:
        """See `AbstractEngine.read`."""
        teachers = [visit.teacher for visit in visits]
        even = len({len(visit.labels) for visit in visits}) == 1
        if not even or not can_stack(teachers):
            return LoopEngine().read(inversion, generator, visits, rngs)
        stack = StackedTeachers(teachers)
        names = [k for k, _ in generator.named_parameters()]
        shared = [p.detach() for p in generator.parameters()]
        adapted = [p.expand(len(teachers), *p.shape).clone().requires_grad_() for p in shared]
        codes = torch.stack([inversion.codes(v.teacher, v.labels, rng) for v, rng in zip(visits, rngs, strict=True)])
        codes = send(codes, stack.device).requires_grad_()
        wanted = send(torch.stack([visit.labels for visit in visits]), stack.device)

        def generate(parameters: dict[str, Tensor], latents: Tensor) -> Tensor:
            """One teacher's images; mapped over all of them."""
            return functional_call(generator, parameters, (latents,))

        def terms_at(step: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
            """Images of the adapted generators at a step, and each teacher's terms there, as `_Alone` gives one's."""
            with mixed_precision():
                images = vmap(generate)(dict(zip(names, adapted, strict=True)), codes).float()
                each = zip(images, rngs, strict=True)
                shown = torch.stack([inversion.augment(own, r.generator("augment", step)) for own, r in each])
                logits, statistics = stack.logits(shown)
                terms = []
                for i, visit in enumerate(visits):
                    seen = Forward(logits[i], statistics[i])
                    terms.append(inversion.terms(shown[i], seen, wanted[i], visit.student))
                return images, terms

        images, terms, gradient = _adapt(inversion, adapted, codes, terms_at)
        moved = [p - q.detach() for p, q in zip(shared, adapted, strict=True)]
        return [
            Reading(
                images[i].detach(),
                _detached(terms[i]),
                [g[i] for g in gradient],
                [m[i] for m in moved],
            )
            for i in range(len(teachers))
        ]

    def groups(self, visits: int, world: int) -> list[list[int]]:
        """One group a process."""
        return [list(range(visits))[rank::world] for rank in range(min(world, visits))]


ENGINES: dict[str, AbstractEngine] = {"loop": LoopEngine(), "batched": BatchedEngine()}
