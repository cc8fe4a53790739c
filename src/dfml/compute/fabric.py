"""The processes and the device of a run: one process under Fabric, or those that torchrun or Slurm started."""

import atexit
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from torch import Tensor

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.errors import InputError, LostRank, NoAnswer

Item = TypeVar("Item")


def launch(accelerator: str) -> tuple[Fabric, AbstractRanks]:
    """Fabric on this machine's device, and the processes of the run.

    Under ``torchrun`` or ``srun`` with several tasks these are the processes that they started, on one or several
    machines; otherwise this one alone. Modules are not wrapped: what is shared goes through `AbstractRanks.map`.

    Raises:
        InputError: a group of processes that does not fill every machine equally.
    """
    here, world = _given("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"), _given("WORLD_SIZE", "SLURM_NTASKS")
    if world <= 1 or not (TorchElasticEnvironment.detect() or SLURMEnvironment.detect()):
        return Fabric(accelerator=accelerator, devices=1), SERIAL_RANKS
    if world % here:
        raise InputError(
            f"{world} processes, {here} on this machine",
            "as many processes on every machine",
            "set --nproc-per-node (torchrun) or --ntasks-per-node (Slurm)",
        )
    fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=world // here, strategy="ddp")
    fabric.launch()
    atexit.register(_leave)
    return fabric, FabricRanks(fabric)


def _leave() -> None:
    """A process that ends with its connections open may abort in one of torch's threads."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _given(*names: str) -> int:
    """The first of these environment variables that is a number; 1 without."""
    return next((int(value) for name in names if (value := os.environ.get(name, "")).isdigit()), 1)


def is_first_process() -> bool:
    """Whether this process is the one that prints, of those that torchrun or Slurm started."""
    return not any(int(os.environ.get(name, "0") or 0) for name in ("RANK", "SLURM_PROCID"))


class FabricRanks(AbstractRanks):
    """Processes that Fabric connected."""

    def __init__(self, fabric: Fabric):
        self.rank, self.world, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def map(self, function: Callable[[Item], list[Tensor]], items: Sequence[Item]) -> list[list[Tensor]]:
        """Item i is computed by process i modulo their number; everyone gathers everything.

        Raises:
            LostRank: another process is gone.
            NoAnswer: of any process, the first of them; raised in every one.
        """
        mine: list[list[Tensor]] = []
        problem: NoAnswer | None = None
        try:
            for item in items[self.rank :: self.world]:
                mine.append(function(item))
        except NoAnswer as error:  # everyone learns of it, so that all take the same way from here
            problem = error
        flat = torch.cat([t.detach().flatten() for tensors in mine for t in tensors] or [torch.zeros(0)])
        told = (problem.teacher, problem.reason, problem.do, problem.comes_back) if problem else None
        everyone = self._gather_plain((told, [[tuple(t.shape) for t in tensors] for tensors in mine]))
        for teacher, reason, do, comes_back in (told for told, _ in everyone if told):
            raise NoAnswer(teacher, reason, do, comes_back=comes_back, everywhere=True)
        shapes = [each for _, each in everyone]
        sizes = [sum(math.prod(shape) for item in rank for shape in item) for rank in shapes]
        gathered = self._gather(flat.to(self.device), max(sizes))
        parts = [iter(_split(values, rank)) for values, rank in zip(gathered, shapes, strict=True)]
        return [next(parts[i % self.world]) for i in range(len(items))]

    def _gather_plain(self, value: Any) -> list[Any]:
        everyone: list[Any] = [None] * self.world
        with _noticing():
            dist.all_gather_object(everyone, value)
        return everyone

    def _gather(self, values: Tensor, size: int) -> list[Tensor]:
        padded = torch.nn.functional.pad(values, (0, size - len(values)))
        everyone = [torch.empty_like(padded) for _ in range(self.world)]
        with _noticing():
            dist.all_gather(everyone, padded)
        return everyone


def _split(values: Tensor, shapes: list[list[tuple[int, ...]]]) -> list[list[Tensor]]:
    """One process's values as its items' tensors."""
    sizes = [math.prod(shape) for item in shapes for shape in item]
    flat = iter(values[: sum(sizes)].split(sizes))
    return [[next(flat).view(shape) for shape in item] for item in shapes]


@contextmanager
def _noticing() -> Iterator[None]:
    """A failing exchange means that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise LostRank("another process of this run is gone or does not answer") from error
