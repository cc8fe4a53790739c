"""Step sizes over a run."""

import math


def cosine(progress: float, *, warm_up: float = 0.0) -> float:
    """A factor that falls from 1 to 0 as a cosine (Loshchilov & Hutter, ICLR 2017).

    Args:
        progress: the part of the run that is over, 0 to 1.
        warm_up: the part of the run in which it rises, from 0.1 up to the cosine.
    """
    rise = min(1.0, 0.1 + progress / warm_up) if warm_up else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * progress))
