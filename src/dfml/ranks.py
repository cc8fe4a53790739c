"""Processes that train one run together: who computes what, and how everyone gets all of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Item = TypeVar("Item")


class AbstractRanks(ABC):
    """The processes of a run. Each holds the same state and takes the same steps (H9).

    Work is divided in two ways. `map` divides independent items: sums over them are taken in the items' order, so their
    bits do not depend on how many processes there are. `share` divides one batch, whose sums differ in their rounding.

    Args:
        rank: of this process, from 0.
        world: how many there are.
    """

    rank: int
    world: int

    @property
    def of_a_batch(self) -> "AbstractRanks":
        """Those who share single batches, which takes an exchange at every layer: all, or everyone alone."""
        return self

    @abstractmethod
    def map(self, function: Callable[[Item], list[Tensor]], items: Sequence[Item]) -> list[list[Tensor]]:
        """``function`` of every item, in order, the same in every process, each of which computes its share.

        Args:
            function: gives float32 tensors, as many of every item; it leaves no traces that another process would miss.
            items: the same in every process.
        """

    @abstractmethod
    def gather(self, values: Float[Tensor, " n"]) -> Float[Tensor, "world n"]:
        """Every process's values, as many in each, in their order."""

    def share(self, count: int) -> tuple[slice, float]:
        """The part of a batch that this process computes, and its weight in the batch's mean.

        Where there are fewer images than processes, everyone computes all of them (and BatchNorm's running variance
        takes them for so many more).
        """
        if count < self.world:
            return slice(None), 1 / self.world
        first, last = (rank * count // self.world for rank in (self.rank, self.rank + 1))
        return slice(first, last), (last - first) / count

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of each tensor the sum over processes, the same bits in every one."""
        if self.world == 1:
            return list(tensors)
        total = self.gather(torch.cat([t.detach().flatten() for t in tensors])).sum(0)
        parts = total.split([t.numel() for t in tensors])
        return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


class OneRank(AbstractRanks):
    """A process alone."""

    rank, world = 0, 1

    def map(self, function: Callable[[Item], list[Tensor]], items: Sequence[Item]) -> list[list[Tensor]]:
        """All items, here."""
        return [function(item) for item in items]

    def gather(self, values: Float[Tensor, " n"]) -> Float[Tensor, "1 n"]:
        """These."""
        return values[None]


ALONE = OneRank()
