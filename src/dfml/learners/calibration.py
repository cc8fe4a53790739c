"""Inversion calibration following the inner loop: after adapting, what the network learned from images that were not
real is brought closer to the real ones of its support."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfml.compute.devices import send
from dfml.functional.contrastive import supervised_contrastive
from dfml.functional.noise import natural_noise
from dfml.functional.priors import batchnorm_alignment, capture_statistics, class_prior, total_variation
from dfml.learners.base import Predictor, join
from dfml.nn import Encoder
from dfml.randomness import Rng

IMAGES, PIXEL_STEPS, PIXEL_LR = 5, 20, 0.05  # pseudo images of a class, and how Adam makes them
BN_WEIGHT = TV_WEIGHT = 1.0  # of their loss
LR, TEMPERATURE = 0.01, 0.1  # of the calibration


@torch.enable_grad()
def calibrated(
    predictor: Predictor,
    support_x: Float[Tensor, "n c h w"],
    support_y: Int[Tensor, " n"],
    *,
    steps: int,
) -> Predictor:
    """A predictor whose features of the support and of images inverted from itself agree class by class.

    A reconstruction of ICFIL (Hu et al., CVPR 2023, PURER), of which neither code nor details are public: the adapted
    network is inverted for images of the task's classes, then encoder and head take a few steps of gradient descent
    on the supervised contrastive loss between the support and these, and on the support's cross-entropy, which keeps
    the head in place. BatchNorm stays as it was set when the predictor was adapted. All numbers of this file are ours.

    Args:
        predictor: adapted to the support; left as it is.
        support_x: images that fit its one encoder.
        support_y: labels 0..way-1.
        steps: of the calibration.
    """
    (own,) = predictor.encoders
    encoder = cast(Encoder, copy.deepcopy(own)).requires_grad_(True)
    weight, bias = (t.clone().requires_grad_() for t in (predictor.weight, predictor.bias))
    images, labels = inverted(predictor, len(weight))
    every_x, every_y = torch.cat([support_x, images]), torch.cat([support_y, labels])
    descent = torch.optim.SGD([*encoder.parameters(), weight, bias], lr=LR)
    for _ in range(steps):
        features = join([encoder(every_x)], normalise=predictor.normalise)
        contrast = supervised_contrastive(features, every_y, temperature=TEMPERATURE)
        answers = F.linear(features[: len(support_y)], weight, bias)
        descent.zero_grad()
        (contrast + F.cross_entropy(answers, support_y)).backward()
        descent.step()
    return Predictor([encoder.requires_grad_(False)], weight, bias, normalise=predictor.normalise)


def inverted(predictor: Predictor, way: int) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    """Images that the predictor takes for its own classes, with these; the same at every call."""
    encoder = cast(Encoder, predictor.encoders[0])
    labels = torch.arange(way, device=predictor.weight.device).repeat_interleave(IMAGES)
    noise = natural_noise(len(labels), encoder.spec.channels, encoder.spec.size, Rng(0).generator("icfil"))
    pixels = send(noise.to(predictor.weight.dtype), predictor.weight.device).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=PIXEL_LR)
    for _ in range(PIXEL_STEPS):
        with capture_statistics(encoder) as statistics:
            features = join([encoder(pixels)], normalise=predictor.normalise)
        loss = class_prior(F.linear(features, predictor.weight, predictor.bias), labels)
        loss = loss + TV_WEIGHT * total_variation(pixels)
        if statistics:
            loss = loss + BN_WEIGHT * batchnorm_alignment(statistics)
        (pixels.grad,) = torch.autograd.grad(loss, [pixels])
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach(), labels
