"""Processes that train one run together: who computes what, and how everyone gets all of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

Item = TypeVar("Item")


class AbstractRanks(ABC):
    """The processes of a run. Each holds the same state and takes the same steps; only `map` divides work.

    Whatever is summed over items is summed from what `map` gives, in the items' order, so that a run's numbers do not
    depend on how many processes share it.

    Args:
        rank: of this process, from 0.
        world: how many there are.
    """

    rank: int
    world: int

    @abstractmethod
    def map(self, function: Callable[[Item], list[Tensor]], items: Sequence[Item]) -> list[list[Tensor]]:
        """``function`` of every item, in order, the same in every process, each of which computes its share.

        Args:
            function: gives float32 tensors, as many of every item; it leaves no traces that another process would miss.
            items: the same in every process.
        """


class SerialRanks(AbstractRanks):
    """A process alone."""

    rank, world = 0, 1

    def map(self, function: Callable[[Item], list[Tensor]], items: Sequence[Item]) -> list[list[Tensor]]:
        """All items, here."""
        return list(map(function, items))


SERIAL_RANKS = SerialRanks()
