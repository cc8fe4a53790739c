"""Work that is spread over jobs. What runs them is given from outside, since this part of dfml knows no processes."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

Task = TypeVar("Task")
Result = TypeVar("Result")


@runtime_checkable
class Executor(Protocol):
    """Runs independent jobs: `SERIAL`, or what `dfml.compute.local.start_executor` gives."""

    @property
    def workers(self) -> int:
        """How many jobs run at once."""

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """``function`` of each task, in the order in which they finish; both may be sent to another machine."""


@dataclass(frozen=True)
class SerialExecutor:
    """One job after the other, in this process and this thread."""

    workers: int = 1

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """See `Executor`."""
        return map(function, tasks)


SERIAL = SerialExecutor()


def in_order(executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """``function`` of each task in the order of the tasks; what is done early waits, so that sums keep their bits."""
    early: dict[int, Result] = {}
    turn = 0
    for number, result in executor.run(partial(_numbered, function), enumerate(tasks)):
        early[number] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def parts(count: int, executor: Executor, *, each: int = 1) -> list[range]:
    """``range(count)`` in consecutive parts: single ones for a single worker, else about ``each`` parts a worker."""
    size = 1 if executor.workers == 1 else max(1, math.ceil(count / (each * executor.workers)))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _numbered(function: Callable[[Task], Result], task: tuple[int, Task]) -> tuple[int, Result]:
    return task[0], function(task[1])
