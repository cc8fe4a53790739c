"""What makes a run resume to the same bits: kernels, threads, and draws from torch's global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dfml.randomness import Rng


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Deterministic kernels and ``threads`` CPU threads inside; the caller's settings and random state after."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def seed_strays(rng: Rng) -> None:
    """Seed torch's global generator by place, so that code which draws from it resumes equally."""
    torch.manual_seed(rng.integer("global"))
