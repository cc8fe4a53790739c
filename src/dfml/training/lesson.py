"""How a student learns the answers in a bank."""

import warnings
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.functional.schedules import cosine
from dfml.nn import AnsweringBackbone, Encoder
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.training.answers import coded_divergence
from dfml.training.bank import AnswerBank
from dfml.training.meta_model import update_average
from dfml.training.sight import Sight
from dfml.training.student import Said

MEASURED = 2048  # images that tell the mean and deviation of what teachers see
WARM_UP = 0.05  # of the run, in which the step size rises


@runtime_checkable
class Pupil(Protocol):
    """Who learns, and from what."""

    student: Encoder
    sight: Sight
    average: Encoder
    optimiser: torch.optim.Optimizer
    bank: AnswerBank
    updates: int

    @property
    def said(self) -> Said:
        """What the student says; compiled or not."""


@dataclass
class Lesson:
    """The hyper-parameters of an update; see `dfml.methods.consolidate.Consolidate`.

    A batch for which the device has no memory is learned in ``parts``; their gradients are added, their BatchNorm
    statistics are each part's own.
    """

    batch_size: int
    lr: float
    temperature: float
    average_decay: float
    features_weight: float
    answers_weight: float
    parts: int = 1

    def learn(self, pupil: Pupil, rng: Rng, *, updates: int, done: float, all_asked: bool) -> float:
        """So many updates of the student on random images of the bank, of all that it will get a share being done.

        Args:
            pupil: changed in place.
            rng: of this call alone.
            updates: how many.
            done: share of all updates, 0 to 1, that the step size follows.
            all_asked: False where some teachers were not asked about some of the images.

        Returns:
            Their mean loss.
        """
        losses = []
        pupil.optimiser.param_groups[0]["lr"] = self.lr * cosine(done, warm_up=WARM_UP)
        pupil.student.train()
        if pupil.sight.width:
            _, kept = pupil.bank.sample(MEASURED, rng.generator("sight"))
            pupil.sight.measure(kept[:, -pupil.sight.width :])
        for update in range(updates):
            images, wanted = pupil.bank.sample(self.batch_size, rng.generator("batch", update))
            loss = self._gradient(pupil, images, wanted, all_asked)
            pupil.optimiser.step()
            update_average(pupil.average, pupil.student, decay=self.average_decay, step=pupil.updates)
            pupil.updates += 1
            losses.append(loss)
        pupil.student.eval()
        return float(torch.stack(losses).mean())

    def _gradient(self, pupil: Pupil, images: Tensor, wanted: Tensor, all_asked: bool) -> Tensor:
        """Of the mean loss, at the student's weights; the loss."""
        while True:
            pupil.optimiser.zero_grad()
            losses = []
            try:
                for some, theirs in zip(images.chunk(self.parts), wanted.chunk(self.parts), strict=True):
                    loss = self.loss(pupil, some, theirs, all_asked=all_asked) * (len(some) / len(images))
                    loss.backward()
                    losses.append(loss.detach())
                return torch.stack(losses).sum()
            except torch.OutOfMemoryError:
                if 2 * self.parts > len(images) // 2:  # BatchNorm wants two images
                    raise
                self.parts *= 2
            torch.cuda.empty_cache()
            warnings.warn(f"no memory for an update of {len(images)} images: in {self.parts} parts", stacklevel=2)

    def loss(
        self,
        pupil: Pupil,
        images: Float[Tensor, "n c h w"],
        wanted: Float[Tensor, "n outputs"],
        *,
        all_asked: bool = True,
    ) -> Float[Tensor, ""]:
        """Mean divergence of the student's heads from the answers, at the temperature (Hinton et al. 2015).

        And the error of what it takes the teachers to see.
        """
        with mixed_precision():
            given, seen = pupil.said(pupil.student, pupil.sight, images)
        answers, features = wanted.tensor_split([wanted.shape[1] - pupil.sight.width], -1)
        sizes = cast(AnsweringBackbone, pupil.student.backbone).sizes
        loss = coded_divergence(answers, given.float(), sizes, temperature=self.temperature, all_asked=all_asked)
        if pupil.sight.width:
            loss = self.answers_weight * loss + self.features_weight * pupil.sight.error(features, seen.float())
        return loss
