"""How a predictor does on images of its classes: what it says of each, and whether its probabilities hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.errors import InputError
from dfml.functional.intervals import wilson_interval
from dfml.functional.temperature import calibration_error
from dfml.learners.task_classifier import NONE, FileAnswer, TaskClassifier


@dataclass(frozen=True)
class Judged:
    """Counts of answers.

    Args:
        names: of the classes, then `NONE` where it can be the answer or the truth.
        counts: a row is what an image is, a column what was said of it.
        calibration_error: expected, of the images of known classes, in percentage points.
    """

    names: tuple[str, ...]
    counts: Int[Tensor, "names names"]
    calibration_error: float

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """In percent, with the ends of its 95 % interval (Wilson's)."""
        return wilson_interval(int(self.counts.trace()), int(self.counts.sum()))

    def per_class(self) -> list[dict[str, Any]]:
        """Of each name: ``images``, the share of them that was ``found``, and how many of those called so were
        ``right``, in percent; None where there are none.
        """
        rows = []
        for i, name in enumerate(self.names):
            images, said, hit = (int(n) for n in (self.counts[i].sum(), self.counts[:, i].sum(), self.counts[i, i]))
            found, right = (100 * hit / n if n else None for n in (images, said))
            rows.append({"class": name, "images": images, "found": found, "right": right})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        mean, low, high = self.accuracy
        accuracy = {"mean": round(mean, 3), "low": round(low, 3), "high": round(high, 3)}
        return {
            "accuracy": accuracy | {"images": int(self.counts.sum())},
            "calibration_error": round(self.calibration_error, 3),
            "classes": list(self.names),
            "confusion": self.counts.tolist(),
            "per_class": self.per_class(),
        }


def judge(classifier: TaskClassifier, answers: Iterable[tuple[str, FileAnswer]]) -> Judged:
    """Count answers for images whose class is known.

    Args:
        classifier: that gave them.
        answers: each with the name of the image's class; one that the classifier does not know is `NONE`, which is
            right where it can say so and wrong where it cannot.

    Raises:
        InputError: no answers, or none of its classes.
    """
    given = [(truth if truth in classifier.class_names else NONE, answer) for truth, answer in answers]
    known = [(truth, answer) for truth, answer in given if truth != NONE]
    if not known:
        wanted = f"images of {', '.join(classifier.class_names[:5])}"
        raise InputError("no images of the predictor's classes", wanted, "name class folders as the support's")
    names = list(classifier.class_names)
    if classifier.floor is not None or len(known) < len(given):
        names.append(NONE)
    index = {name: i for i, name in enumerate(names)}
    counts = torch.zeros(len(names), len(names), dtype=torch.long)
    for truth, answer in given:
        counts[index[truth], index[answer.label]] += 1
    probabilities = torch.tensor([answer.probabilities for _, answer in known])
    labels = torch.tensor([index[truth] for truth, _ in known])
    return Judged(tuple(names), counts, calibration_error(probabilities, labels))
