"""Questions that teachers were asked, against a budget: those behind an API cost money."""

import math
from typing import Any

import torch

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.zoo.views import Tally


class Questions:
    """How many images each teacher was asked about, and how many more it may be.

    Args:
        in_all: the budget of all teachers together; None is any number.
        per_teacher: the budget of each.
    """

    def __init__(self, in_all: int | None, per_teacher: int | None):
        self.in_all, self.per_teacher = in_all, per_teacher
        self.asked: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Asked so far."""
        return sum(self.asked.values())

    def left(self, teacher: str) -> float:
        """So many more may this teacher be asked; infinite without a budget."""
        everyone = math.inf if self.in_all is None else self.in_all - self.total
        own = math.inf if self.per_teacher is None else self.per_teacher - self.asked.get(teacher, 0)
        return float(min(everyone, own))

    def count(self, teacher: str, tally: Tally, ranks: AbstractRanks = SERIAL_RANKS) -> None:
        """Add what every process asked a teacher, each on a tally of its own."""
        own = torch.tensor(float(tally.queries))
        told = ranks.map(lambda _: [own], range(ranks.world))
        self.asked[teacher] = self.asked.get(teacher, 0) + int(sum(float(value) for (value,) in told))

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"asked": dict(self.asked)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.asked = dict(state["asked"])
