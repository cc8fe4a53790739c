"""Questions that teachers were asked, against a budget: those behind an API cost money."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.zoo.views import Tally


class Questions:
    """How many images each teacher was asked about, and how many more it may be.

    Args:
        in_all: the budget of all teachers together; None is any number.
        per_teacher: the budget of each.
        free: teachers that have no budget: asking a model whose weights are at hand costs nothing.
    """

    def __init__(self, in_all: int | None, per_teacher: int | None, free: Collection[str] = ()):
        self.in_all, self.per_teacher, self.free = in_all, per_teacher, free
        self.asked: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Asked so far."""
        return sum(self.asked.values())

    def left(self, teacher: str) -> float:
        """So many more may this teacher be asked; infinite without a budget."""
        if teacher in self.free:
            return math.inf
        everyone = math.inf if self.in_all is None else self.in_all - self.total
        own = math.inf if self.per_teacher is None else self.per_teacher - self.asked.get(teacher, 0)
        return float(min(everyone, own))

    def count(self, teacher: str, tally: Tally, ranks: AbstractRanks = SERIAL_RANKS) -> None:
        """Add what every process asked a teacher, each on a tally of its own."""
        self._add([teacher], [tally.queries], ranks)

    @contextmanager
    def counting(self, teachers: Sequence[str], tally: Tally, ranks: AbstractRanks = SERIAL_RANKS) -> Iterator[None]:
        """Add what every process asks these teachers inside; nothing where it ends in an error.

        A step that fails because somebody did not answer is taken anew, and what the others answered is at hand then.
        """
        before = [tally.by_teacher[name] for name in teachers]
        yield
        self._add(teachers, [tally.by_teacher[n] - b for n, b in zip(teachers, before, strict=True)], ranks)

    def _add(self, teachers: Sequence[str], asked: Sequence[int], ranks: AbstractRanks) -> None:
        own = torch.tensor(asked, dtype=torch.float64)
        told = ranks.map(lambda _: [own], range(ranks.world))
        for name, count in zip(teachers, torch.stack([each for (each,) in told]).sum(0).tolist(), strict=True):
            self.asked[name] = self.asked.get(name, 0) + int(count)

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"asked": dict(self.asked)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.asked = dict(state["asked"])
