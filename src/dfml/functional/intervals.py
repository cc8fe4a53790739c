"""Intervals of a mean of few values."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def student_t(freedom: int, level: float = 0.95) -> float:
    """How many standard errors the interval of a mean reaches to each side, by Student's t distribution.

    Solves A(t) = ``level``, where A is the probability of |T| < t as a finite sum (Abramowitz & Stegun, "Handbook of
    Mathematical Functions", 26.7.3 and 26.7.4), by halving the angle atan(t / sqrt(freedom)).

    Args:
        freedom: degrees of freedom, one less than the number of values; at least 1.
        level: probability that the interval holds the mean, between 0 and 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """The probability of |T| < sqrt(freedom) tan(angle)."""
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    sine = math.sin(angle) * total
    return 2 / math.pi * (angle + sine) if odd else sine


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The mean of independent values, and half the width of its interval; of at least two."""
    error = stdev(values) / math.sqrt(len(values))
    return fmean(values), student_t(len(values) - 1, level) * error


def wilson_interval(right: int, of: int) -> tuple[float, float, float]:
    """A share in percent, and both ends of its 95 % interval: Wilson's (JASA 1927), sound also for all or none."""
    z, share = 1.96, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return 100 * share, 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)
