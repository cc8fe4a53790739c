"""How sure a predictor may be: found from its support alone, each image answered by what the others teach."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfml.errors import InputError
from dfml.functional.intervals import wilson_interval
from dfml.functional.temperature import calibration_error, temperature
from dfml.learners.base import AbstractLearner, Predictor, embed, percent_right
from dfml.learners.frozen import FrozenLearner

PARTS = 20  # of a support that are left out in turn, at most


@dataclass(frozen=True)
class Confidence:
    """What the images of a support say of its predictor, each left out of what answers it.

    Args:
        images: that could be left out: of classes with two or more.
        accuracy: share of them that the others classify rightly, in percent; None where there are none.
        temperature: that the logits were divided by.
        error_before: expected calibration error on them, in percentage points; likewise.
        error_after: the same, with the temperature, which was chosen on them.
    """

    images: int
    accuracy: float | None = None
    temperature: float = 1.0
    error_before: float | None = None
    error_after: float | None = None

    def sentences(self) -> list[str]:
        """What there is to say of it, for people."""
        if self.accuracy is None:
            return []
        mean, low, high = wilson_interval(round(self.accuracy * self.images / 100), self.images)
        share = f"{mean:.0f} % of {self.images} images (95 % interval {low:.0f} to {high:.0f})"
        warm = [f"probabilities calibrated on these, with temperature {self.temperature:.2f}"]
        return [f"{share} classified rightly when left out", *(warm if self.temperature != 1 else [])]


@dataclass(frozen=True)
class Sure:
    """A predictor whose probabilities are calibrated, and from where on it says none of these.

    Args:
        predictor: adapted to the support.
        floor: an image of which no logit reaches it is of none of the classes; None knows no such image.
        confidence: how it was found.
    """

    predictor: Predictor
    floor: float | None
    confidence: Confidence


def adapt_surely(
    learner: AbstractLearner,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    *,
    calibrate: bool = True,
    reject: float | None = None,
) -> Sure:
    """Adapt a learner, then calibrate it on the images of its own support.

    The head is linear, so the temperature goes into it: a calibrated predictor is a predictor like any other.

    Args:
        learner: stays as it is.
        images: the support.
        labels: 0..way-1; shots may be uneven.
        calibrate: divide the logits by the temperature that fits the left-out images best. Classes of one image say
            nothing of it; without others it is 1.
        reject: the share of images of the classes, from 0 to 1, that may be taken for none of them: the floor is the
            quantile of the left-out images' largest logits. None never says none of these.

    Raises:
        InputError: a share outside of [0, 1), or to be found where every class has one image.
    """
    predictor = learner.adapt(images, labels)
    if not (calibrate or reject is not None):
        return Sure(predictor, None, Confidence(0))
    return made_sure(predictor, *left_out(learner, images, labels), calibrate=calibrate, reject=reject)


def made_sure(
    predictor: Predictor,
    logits: Float[Tensor, "m way"],
    labels: Int[Tensor, " m"],
    *,
    calibrate: bool = True,
    reject: float | None = None,
) -> Sure:
    """See `adapt_surely`.

    Args:
        predictor: adapted to all of the support.
        logits: of the left-out images.
        labels: of these.
        calibrate: as there.
        reject: as there.

    Raises:
        InputError: as there.
    """
    if reject is not None and not 0 <= reject < 1:
        raise InputError(f"reject {reject}", "a share of the known images to turn away, from 0 to below 1", "change it")
    if reject is not None and not len(logits):
        raise InputError("reject, and one image of each class", "two images of a class at least", "give more images")
    warmth = temperature(logits, labels) if calibrate and len(logits) else 1.0
    floor = None if reject is None else float(logits.max(-1).values.quantile(reject)) / warmth
    return Sure(_tempered(predictor, warmth), floor, _confidence(logits, labels, warmth))


def left_out(
    learner: AbstractLearner, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "m way"], Int[Tensor, " m"]]:
    """Logits of the images of classes with two or more, each from a support without it, and their labels.

    One image of each class is left out at a time, so that even shots stay even and no class is at a disadvantage.
    """
    if isinstance(learner, FrozenLearner):
        with torch.no_grad():
            return left_out_of_heads(learner, embed(learner.networks, images, normalise=learner.normalise), labels)
    answered = [(learner.adapt(images[~out], labels[~out])(images[out]), labels[out]) for out in _parts(labels)]
    return _joined(answered, labels)


def left_out_of_heads(
    learner: FrozenLearner, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "m way"], Int[Tensor, " m"]]:
    """See `left_out`, from the support's features."""
    parts = list(_parts(labels))
    heads = [learner.linear(features[~out], labels[~out]) for out in parts]
    answered = [(F.linear(features[out], *head), labels[out]) for out, head in zip(parts, heads, strict=True)]
    return _joined(answered, labels)


def _joined(answered: list[tuple[Tensor, Tensor]], labels: Tensor) -> tuple[Tensor, Tensor]:
    if not answered:
        return torch.zeros(0, int(labels.max()) + 1), labels[:0].cpu()
    logits, wanted = zip(*answered, strict=True)
    return torch.cat(logits).detach().cpu(), torch.cat(wanted).cpu()


def _parts(labels: Int[Tensor, " n"]) -> Iterator[Bool[Tensor, " n"]]:
    """Masks of what is left out: the first image of each class, the second, ...; in `PARTS` where there are more."""
    onehot = F.one_hot(labels)
    which = (onehot.cumsum(0) * onehot).sum(-1) - 1  # of its class
    several = onehot.sum(0)[labels] > 1
    count = min(PARTS, int(onehot.sum(0).max()))
    for part in range(count if bool(several.any()) else 0):
        yield several & (which % count == part)


def _tempered(predictor: Predictor, warmth: float) -> Predictor:
    encoders = list(predictor.encoders)
    weight, bias = predictor.weight / warmth, predictor.bias / warmth
    return Predictor(encoders, weight, bias, normalise=predictor.normalise)  # type: ignore[arg-type]


def _confidence(logits: Tensor, wanted: Tensor, warmth: float) -> Confidence:
    if not len(logits):
        return Confidence(0)
    before, after = (calibration_error((logits / t).softmax(-1), wanted) for t in (1.0, warmth))
    return Confidence(len(logits), float(percent_right(logits, wanted)), warmth, before, after)
