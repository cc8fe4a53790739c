"""DeepInversion: optimise the pixels themselves, anew for every batch; slow, and the yardstick of fast recovery."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.bounds import Amount, StepSize, Weight
from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.noise import natural_noise
from dfml.functional.priors import batchnorm_alignment, class_prior, total_variation
from dfml.nn import InputSpec
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered, Visit
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher


class DeepInversion(AbstractRecovery[Canvas]):
    """Yin et al., CVPR 2020, "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion".

    https://arxiv.org/abs/1912.08795

    Images start as noise; Adam moves their pixels until the teacher sees the wanted classes and its BatchNorm layers
    see the statistics they know. PURER and pre-inversion recover in this way. Nothing is learned from one visit to
    the next, and there is no adversarial term here. The weights belong to terms that are means here and sums there, so
    they were set anew, on what teachers of CIFAR-FS make of the images.

    Args:
        start: ``white`` noise, or ``natural`` noise, whose spectrum falls as that of photographs.
        steps: of Adam, a batch.
        lr: its step size, in pixel values.
        class_weight: of the class prior.
        bn_weight: of BatchNorm alignment (relative form), with teachers that have BatchNorm.
        tv_weight: of the total variation.
        flip: mirror images when augmenting; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
    """

    def __init__(
        self,
        *,
        start: Literal["white", "natural"] = "white",
        steps: Amount = 200,
        lr: StepSize = 0.05,
        class_weight: Weight = 1.0,
        bn_weight: Weight = 10.0,
        tv_weight: Weight = 10.0,
        flip: bool | None = None,
    ):
        self.start, self.steps, self.lr, self.flip = start, steps, lr, flip is not False
        self.weights = {"class": class_weight, "bn": bn_weight, "tv": tv_weight}

    def requires(self) -> Capability:
        """Gradients of the logits; layer statistics are aligned where a teacher has them."""
        return Capability.LOGITS | Capability.GRADIENTS

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
        """Every teacher's images from noise of their own."""
        names = [name for name, weight in self.weights.items() if weight]
        varied = self.start == "natural"
        read = ranks.map(partial(self._visit, state, visits, rng), range(len(visits)))
        return [
            Recovered(images, visit.labels, dict(zip(names, terms.tolist(), strict=True)), varied=varied)
            for (images, terms), visit in zip(read, visits, strict=True)
        ]

    def noise(self, n: int, canvas: InputSpec, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """What images start from."""
        if self.start == "natural":
            return natural_noise(n, canvas.channels, canvas.size, generator)
        white = torch.randn(n, canvas.channels, canvas.size, canvas.size, generator=generator)
        return (0.5 + 0.25 * white).clamp(0, 1)

    def _visit(self, state: Canvas, visits: Sequence[Visit], rng: Rng, number: int) -> list[Tensor]:
        """The images, and the un-weighted terms before the last step."""
        visit, rng = visits[number], rng.at("visit", number)
        noise = self.noise(len(visit.labels), state.spec, rng.generator("noise"))
        pixels = send(noise, visit.teacher.device).requires_grad_()
        labels = send(visit.labels, visit.teacher.device)
        adam = torch.optim.Adam([pixels], lr=self.lr)
        for step in range(self.steps):
            with mixed_precision():
                terms = self.terms(visit.teacher, pixels, labels, rng.generator("augment", step))
            (pixels.grad,) = torch.autograd.grad(self.total(terms), [pixels])
            adam.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        return [pixels.detach(), torch.stack([value.detach() for value in terms.values()])]

    def terms(
        self, teacher: Teacher, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The un-weighted loss terms, in the order of the weights; a term of weight 0 is left out."""
        shown = shift_and_flip(images, generator, flip=self.flip)
        seen = teacher.forward(shown, statistics=bool(self.weights["bn"]))
        terms = {"class": class_prior(seen.logits.float(), labels)}
        if self.weights["bn"]:
            terms["bn"] = batchnorm_alignment(seen.statistics) if seen.statistics else terms["class"] * 0
        terms["tv"] = total_variation(images)
        return {name: value for name, value in terms.items() if self.weights[name]}

    def total(self, terms: dict[str, Tensor]) -> Float[Tensor, ""]:
        """The weighted sum of `terms`."""
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
