"""Processes of a run, played by threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from dfml.ranks import AbstractRanks


class Threads(AbstractRanks):
    """One of several threads that play processes; each has objects of its own."""

    def __init__(self, rank, world, barrier, said):
        self.rank, self.world, self.barrier, self.said = rank, world, barrier, said

    def map(self, function, items):
        return [function(item) for item in items]

    def gather(self, values):
        self.said[self.rank] = values.detach().clone()
        self.barrier.wait(60)
        everyone = torch.stack(list(self.said))
        self.barrier.wait(60)
        return everyone


def in_threads(function, world=2):
    """``function(ranks)`` in each of several threads: their results, in order."""
    barrier, said = threading.Barrier(world), [None] * world

    def run(rank):
        try:
            return function(Threads(rank, world, barrier, said))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))
