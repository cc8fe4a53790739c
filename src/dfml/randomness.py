"""Random generators derived statelessly from a seed and a path of names.

A run that was stopped and resumed, or split over processes, draws the same numbers, because nothing carries
a generator's state from one step to the next: each place asks for the generator of *its* name.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Rng:
    """A seed with a path of names, for example ``Rng(0).at("step", 12).generator("latents")``.

    Draws happen on the CPU, so that a GPU run sees the same tasks as a CPU run.
    """

    seed: int
    path: tuple[str | int, ...] = field(default=())

    def at(self, *names: str | int) -> "Rng":
        """The same seed, one or more names further down."""
        return Rng(self.seed, self.path + names)

    def generator(self, *names: str | int) -> torch.Generator:
        """A fresh CPU generator for this path (and ``names`` below it); equal paths give equal draws."""
        digest = hashlib.sha256(repr((self.seed, *self.path, *names)).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def integer(self, *names: str | int, high: int = 2**31 - 1) -> int:
        """One integer in [0, high) for this path."""
        return int(torch.randint(high, (), generator=self.generator(*names)))

    @contextmanager
    def seeded(self, *names: str | int) -> Iterator[None]:
        """Inside, torch's global CPU generator draws for this path, as layers do when they are made; after, as before.

        The one way to build a network with random weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.integer(*names))
            yield
