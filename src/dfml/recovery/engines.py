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
from dfml.functional.priors import BatchNormStatistics
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery.base import Student
from dfml.zoo.stacked import StackedTeachers, can_stack
from dfml.zoo.teacher import LocalTeacher, Teacher

BETAS = (0.5, 0.999)  # of every Adam here, as in the published code


@dataclass(frozen=True)
class Visit:
    """Images of the adapted generator, un-weighted terms there, and the gradient at the adapted parameters."""

    images: Float[Tensor, "n c h w"]
    terms: dict[str, Tensor]
    gradient: list[Tensor]
    moved: list[Tensor]
    """The shared parameters minus the adapted ones."""


@runtime_checkable
class Inversion(Protocol):
    """What an engine asks of the meta-generator."""

    generator: nn.Module
    steps: int
    lr: float
    latent_lr: float
    weights: dict[str, float]
    last_step: bool

    def codes(self, teacher: Teacher, labels: Int[Tensor, " n"], rng: Rng) -> Float[Tensor, "n latent"]:
        """Latent codes to start from."""

    def augment(self, images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """What a teacher is shown of the images."""

    def terms(
        self,
        seen: Float[Tensor, "n c h w"],
        logits: Float[Tensor, "n classes"],
        statistics: Sequence[BatchNormStatistics],
        labels: Int[Tensor, " n"],
        student: Student | None,
    ) -> dict[str, Tensor]:
        """The un-weighted loss terms of one teacher."""


class AbstractEngine(ABC):
    """Computes visits."""

    @abstractmethod
    def visit(
        self,
        inversion: Inversion,
        teachers: Sequence[Teacher],
        labels: Sequence[Int[Tensor, " _"]],
        students: Sequence[Student | None],
        rngs: Sequence[Rng],
    ) -> list[Visit]:
        """Adapt a copy of the shared generator to each teacher by ``steps`` of Adam, and read it there."""

    @abstractmethod
    def groups(self, visits: int, world: int) -> list[list[int]]:
        """Numbers of the visits that one call takes together, for ``world`` processes to share."""


class LoopEngine(AbstractEngine):
    """One teacher after the other: what a CPU does best."""

    def visit(
        self,
        inversion: Inversion,
        teachers: Sequence[Teacher],
        labels: Sequence[Int[Tensor, " _"]],
        students: Sequence[Student | None],
        rngs: Sequence[Rng],
    ) -> list[Visit]:
        """See `AbstractEngine.visit`."""
        return [_visit(inversion, *one) for one in zip(teachers, labels, students, rngs, strict=True)]

    def groups(self, visits: int, world: int) -> list[list[int]]:
        """Each alone."""
        return [[i] for i in range(visits)]


def _visit(inversion: Inversion, teacher: Teacher, labels: Tensor, student: Student | None, rng: Rng) -> Visit:
    names = [k for k, _ in inversion.generator.named_parameters()]
    shared = [p.detach() for p in inversion.generator.parameters()]
    adapted = [p.clone().requires_grad_() for p in shared]
    codes = send(inversion.codes(teacher, labels, rng), teacher.device).requires_grad_()
    labels = send(labels, teacher.device)

    def terms_at(step: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        with mixed_precision():
            parameters = dict(zip(names, adapted, strict=True))
            images = functional_call(inversion.generator, parameters, (codes,)).float()
            seen = teacher.card.input_spec.fit(inversion.augment(images, rng.generator("augment", step)))
            statistics: list[BatchNormStatistics] = []
            if inversion.weights["bn"]:
                with teacher.capture() as statistics:
                    logits = teacher.logits(seen).float()
            else:
                logits = teacher.logits(seen).float()
            return images, [inversion.terms(seen, logits, statistics, labels, student)]

    images, (terms,), gradient = _adapt(inversion, adapted, codes, terms_at)
    moved = [p - q.detach() for p, q in zip(shared, adapted, strict=True)]
    return Visit(images.detach(), {name: value.detach() for name, value in terms.items()}, gradient, moved)


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
        if step == inversion.steps - (0 if inversion.last_step else 1):
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

    def visit(
        self,
        inversion: Inversion,
        teachers: Sequence[Teacher],
        labels: Sequence[Int[Tensor, " _"]],
        students: Sequence[Student | None],
        rngs: Sequence[Rng],
    ) -> list[Visit]:
        """See `AbstractEngine.visit`."""
        even = len({len(wanted) for wanted in labels}) == 1
        if not even or not can_stack(teachers):
            return LoopEngine().visit(inversion, teachers, labels, students, rngs)
        stack = StackedTeachers([t for t in teachers if isinstance(t, LocalTeacher)])
        names = [k for k, _ in inversion.generator.named_parameters()]
        shared = [p.detach() for p in inversion.generator.parameters()]
        adapted = [p.expand(len(teachers), *p.shape).clone().requires_grad_() for p in shared]
        codes = torch.stack([inversion.codes(*one) for one in zip(teachers, labels, rngs, strict=True)])
        codes = send(codes, stack.device).requires_grad_()
        wanted = send(torch.stack(list(labels)), stack.device)

        def generate(parameters: dict[str, Tensor], latents: Tensor) -> Tensor:
            return functional_call(inversion.generator, parameters, (latents,))

        def terms_at(step: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
            with mixed_precision():
                images = vmap(generate)(dict(zip(names, adapted, strict=True)), codes).float()
                shown = (inversion.augment(i, r.generator("augment", step)) for i, r in zip(images, rngs, strict=True))
                seen = torch.stack([stack.spec.fit(batch) for batch in shown])
                logits, statistics = stack.logits(seen)
                each = zip(seen, logits.float(), statistics, wanted, students, strict=True)
                return images, [inversion.terms(*one) for one in each]

        images, terms, gradient = _adapt(inversion, adapted, codes, terms_at)
        moved = [p - q.detach() for p, q in zip(shared, adapted, strict=True)]
        return [
            Visit(
                images[i].detach(),
                {name: value.detach() for name, value in terms[i].items()},
                [g[i] for g in gradient],
                [m[i] for m in moved],
            )
            for i in range(len(teachers))
        ]

    def groups(self, visits: int, world: int) -> list[list[int]]:
        """One group a process."""
        return [list(range(visits))[rank::world] for rank in range(min(world, visits))]


ENGINES: dict[str, AbstractEngine] = {"loop": LoopEngine(), "batched": BatchedEngine()}
