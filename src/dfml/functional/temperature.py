"""Whether probabilities mean what they say, and the one number that mends them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SPREAD = 0.35  # of a temperature's logarithm around 0, before any answer is seen
TEMPERATURES = torch.logspace(-3, 3, 241, base=2)


def temperature(logits: Float[Tensor, "n way"], labels: Int[Tensor, " n"]) -> float:
    """What to divide logits by, so that their softmax fits the labels: the likeliest of 1/8 to 8.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, with a log-normal prior around 1: a handful of
    answers, all of them right, must not make everything certain. No answers at all give 1.
    """
    fits = torch.stack([F.cross_entropy(logits.double() / t, labels, reduction="sum") for t in TEMPERATURES])
    prior = (TEMPERATURES.double().log() / SPREAD) ** 2 / 2
    return float(TEMPERATURES[(fits + prior).argmin()])


def calibration_error(probabilities: Float[Tensor, "n way"], labels: Int[Tensor, " n"], *, bins: int = 15) -> float:
    """Expected calibration error, in percentage points.

    The gap between how sure and how often right, over answers of equal confidence (in bins of equal width), weighted
    by how many they are (Naeini et al., AAAI 2015).
    """
    confidence, answers = probabilities.double().max(-1)
    gaps = (answers == labels).double() - confidence
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    sums = torch.zeros(bins, dtype=torch.double).index_add(0, bin_of, gaps)
    return 100 * float(sums.abs().sum()) / max(1, len(labels))
