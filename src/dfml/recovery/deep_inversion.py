"""DeepInversion: optimise the pixels themselves, anew for every batch; slow, and the yardstick of fast recovery."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.noise import natural_noise
from dfml.functional.priors import batchnorm_alignment, class_prior, total_variation
from dfml.nn import InputSpec
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery.base import AbstractRecovery, Recovered, Student
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher


class DeepInversion(AbstractRecovery):
    """Yin et al., CVPR 2020, "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion".

    https://arxiv.org/abs/1912.08795

    Images start as noise; Adam moves their pixels until the teacher sees the wanted classes and its BatchNorm layers
    see the statistics they know. PURER and pre-inversion recover in this way. Nothing is learned from one visit to
    the next, and there is no adversarial term here. The weights belong to terms that are means here and sums there, so
    they were set anew, on what teachers of CIFAR-FS make of the images.

    Args:
        steps: of Adam, a batch.
        lr: its step size, in pixel values.
        class_weight: of the class prior.
        bn_weight: of BatchNorm alignment (relative form); 0 for teachers without BN statistics.
        tv_weight: of the total variation.
        flip: mirror images when augmenting; False where mirroring changes the class.
    """

    requires: ClassVar[Capability] = Capability.LOGITS | Capability.GRADIENTS

    def __init__(
        self,
        *,
        start: Literal["white", "natural"] = "white",
        steps: int = 200,
        lr: float = 0.05,
        class_weight: float = 1.0,
        bn_weight: float = 10.0,
        tv_weight: float = 10.0,
        flip: bool = True,
    ):
        self.start, self.steps, self.lr, self.flip = start, steps, lr, flip
        self.weights = {"class": class_weight, "bn": bn_weight, "tv": tv_weight}

    def prepare(self, spec: InputSpec, rng: Rng) -> None:
        """The size of the images."""
        self.shape = (spec.channels, spec.size, spec.size)

    def to(self, device: torch.device) -> None:
        """Nothing is kept."""

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
        """Every teacher's images from noise of their own."""
        names = [name for name, weight in self.weights.items() if weight]
        visits = ranks.map(lambda i: self._visit(teachers[i], labels[i], rng.at("visit", i)), range(len(teachers)))
        return [
            Recovered(images, wanted, dict(zip(names, terms.tolist(), strict=True)))
            for (images, terms), wanted in zip(visits, labels, strict=True)
        ]

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        if self.start == "natural":
            return natural_noise(n, *self.shape[:2], generator)
        return (0.5 + 0.25 * torch.randn(n, *self.shape, generator=generator)).clamp(0, 1)

    def _visit(self, teacher: Teacher, labels: Tensor, rng: Rng) -> list[Tensor]:
        """The images, and the un-weighted terms before the last step."""
        pixels = send(self._noise(len(labels), rng.generator("noise")), teacher.device).requires_grad_()
        labels = send(labels, teacher.device)
        adam = torch.optim.Adam([pixels], lr=self.lr)
        for step in range(self.steps):
            with mixed_precision():
                terms = self._terms(teacher, pixels, labels, rng.generator("augment", step))
            total = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
            (pixels.grad,) = torch.autograd.grad(total, [pixels])
            adam.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        return [pixels.detach(), torch.stack([value.detach() for value in terms.values()])]

    def _terms(self, teacher: Teacher, images: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """In the order of the weights; a term of weight 0 is left out."""
        seen = teacher.card.input_spec.fit(shift_and_flip(images, generator, flip=self.flip))
        if self.weights["bn"]:
            with teacher.capture() as statistics:
                logits = teacher.logits(seen).float()
            bn = batchnorm_alignment(statistics)
        else:
            logits, bn = teacher.logits(seen).float(), images.new_zeros(())
        terms = {"class": class_prior(logits, labels), "bn": bn, "tv": total_variation(images)}
        return {name: value for name, value in terms.items() if self.weights[name]}

    def state_dict(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""
