"""The meta-generator as its authors' code runs it: a copy with constants, so that ours needs no switches."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import inner_product_distillation
from dfml.functional.priors import class_prior
from dfml.nn import InputSpec
from dfml.nn.generators import build_generator
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Recovered, Visit
from dfml.recovery.engines import BETAS
from dfml.recovery.meta_generator import MetaGeneratorState
from dfml.zoo.card import Capability

LATENT, STEPS = 256, 5
LR = LATENT_LR = META_LR = 1e-3


class PublishedMetaGenerator(AbstractRecovery[MetaGeneratorState]):
    """What the code of FREE (Wei et al., CVPR 2024) computes, which is not what its equations say.

    The codes hardly move, since their step size is 0.001. One crop and one mirroring serve a whole batch. The
    disagreement is `kl_div` fed with probabilities and a fixed student, so that only <p_T, p_S> moves the images.
    There is no BatchNorm term. Images and meta-gradient are read before the last of the five steps. Every call starts
    the meta-optimiser anew.
    """

    def requires(self) -> Capability:
        """Gradients of the logits."""
        return Capability.LOGITS | Capability.GRADIENTS

    def init(self, canvas: InputSpec, rng: Rng) -> MetaGeneratorState:
        """A random generator of 2.3 M parameters at 32 pixels."""
        with rng.seeded("generator"):
            generator = build_generator("published", latent=LATENT, size=canvas.size, channels=canvas.channels)
        return MetaGeneratorState(generator, _adam(generator))

    def recover(
        self,
        state: MetaGeneratorState,
        visits: Sequence[Visit],
        *,
        rng: Rng,
        learn: bool = True,
        ranks: AbstractRanks = SERIAL_RANKS,
    ) -> list[Recovered]:
        """Visit each teacher from the shared generator, then take one meta-step along the mean of the gradients."""
        state.optimiser = _adam(state.generator)
        read = ranks.map(partial(_visit, state.generator, visits, rng), range(len(visits)))
        if learn:
            state.follow([gradient for _, _, *gradient in read])
        return [
            Recovered(images, visit.labels, dict(zip(("class", "adversarial"), terms.tolist(), strict=True)))
            for (images, terms, *_), visit in zip(read, visits, strict=True)
        ]


def _adam(generator: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(generator.parameters(), lr=META_LR, betas=BETAS)


def _visit(generator: nn.Module, visits: Sequence[Visit], rng: Rng, number: int) -> list[Tensor]:
    """Images, terms, and the gradient at the generator's parameters before the last step."""
    visit, rng = visits[number], rng.at("visit", number)
    teacher, labels = visit.teacher, send(visit.labels, visit.teacher.device)
    names = [name for name, _ in generator.named_parameters()]
    adapted = [p.detach().clone().requires_grad_() for p in generator.parameters()]
    drawn = torch.randn(len(labels), LATENT, generator=rng.generator("codes"))
    codes = send(drawn, teacher.device).requires_grad_()
    groups = [{"params": adapted, "lr": LR}, {"params": [codes], "lr": LATENT_LR}]
    inner = torch.optim.Adam(groups, betas=BETAS, foreach=True)
    for step in range(STEPS):
        with mixed_precision():
            images = functional_call(generator, dict(zip(names, adapted, strict=True)), (codes,)).float()
            shown = shift_and_flip(images, rng.generator("augment", step), per_sample=False)
            logits = teacher.forward(shown).logits.float()
            prior = class_prior(logits, labels)
            against = _disagreement(logits, visit, shown) if visit.student else prior * 0
        *gradient, codes.grad = torch.autograd.grad(prior + against, [*adapted, codes])
        if step < STEPS - 1:
            for p, g in zip(adapted, gradient, strict=True):
                p.grad = g
            inner.step()
    return [images.detach(), torch.stack([prior.detach(), against.detach()]), *gradient]


def _disagreement(teacher_logits: Tensor, visit: Visit, shown: Tensor) -> Tensor:
    assert visit.student is not None
    student_logits = visit.student(shown).detach().float()
    agree = teacher_logits.argmax(-1) == student_logits.argmax(-1)
    if not agree.any():
        return teacher_logits.sum() * 0
    return -inner_product_distillation(student_logits[agree], teacher_logits[agree])
