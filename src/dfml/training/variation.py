"""What images go through before teachers answer on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.compute.devices import send
from dfml.data.drawings import Drawing, draw
from dfml.functional.augmentation import distort_images, mix_images, shift_and_flip
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery import Recovered


@dataclass(frozen=True)
class Variation:
    """All images are shifted and mirrored; those that are much alike, and drawn ones, also distorted and mixed.

    Args:
        distortion: strength of zooms, turns and changes of colour.
        mixed: share of the images that is mixed with another one.
        flip: mirror half of them.
        drawn: so many images are drawn and go the same way.
        drawing: what they show.
    """

    distortion: float
    mixed: float
    flip: bool
    drawn: int = 0
    drawing: Drawing = "leaves"

    def __call__(
        self, recovered: Sequence[Recovered], canvas: InputSpec, rng: Rng, device: torch.device | None = None
    ) -> Float[Tensor, "n c h w"]:
        """Images of a step in [0, 1], on the device."""
        alike = [r.images for r in recovered if not r.varied]
        parts = [r.images for r in recovered if r.varied]
        if self.drawn:
            drawn = draw(self.drawing, self.drawn, canvas, rng.generator("draw"))
            alike.append(drawn if device is None else send(drawn, device))
        if parts:
            parts = [shift_and_flip(torch.cat(parts), rng.generator("augment varied"), flip=self.flip)]
        if alike:
            images = shift_and_flip(torch.cat(alike), rng.generator("augment"), flip=self.flip)
            images = distort_images(images, rng.generator("distort"), strength=self.distortion)
            parts.append(mix_images(images, rng.generator("mix"), share=self.mixed))
        return torch.cat(parts)
