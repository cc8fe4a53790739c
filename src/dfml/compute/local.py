"""Where independent jobs run: in this process, in several of this machine, or on a cluster. All of dfml asks here."""

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import torch

from dfml.compute.devices import cores
from dfml.compute.executor import Executor, Result, Task
from dfml.compute.memory import keep_freed_memory
from dfml.errors import InputError


@contextmanager
def start_executor(
    executor: str = "local", workers: int | None = None, *, tasks: int | None = None
) -> Iterator[Executor]:
    """What runs jobs, ready while the block lasts.

    Args:
        executor: a key of `EXECUTORS`.
        workers: jobs at once; None is one a core of this machine (``local``) or one a CPU of the cluster (``ray``).
        tasks: how many there will be, where that is known; there are no more workers than that.

    Raises:
        InputError: an unknown executor, no workers, or ``ray`` that is not installed or not to be reached.
    """
    if executor not in EXECUTORS:
        raise InputError(f"executor {executor!r}", f"one of {', '.join(EXECUTORS)}", "correct --executor")
    if workers is not None and workers < 1:
        raise InputError(f"{workers} jobs", "at least 1", "correct --jobs, or leave it out")
    if tasks is not None and executor == "local":
        workers = max(1, min(workers or cores(), tasks))
    with EXECUTORS[executor](workers) as jobs:
        yield jobs


@dataclass(frozen=True)
class LocalExecutor:
    """One worker runs jobs in this process; several are processes that share the cores among them.

    Args:
        workers: processes.
    """

    workers: int

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """``function`` of each task, in the order in which they finish.

        At most ``workers`` + 1 tasks are made ahead, and leaving the iteration early (an interrupt, too) ends the
        processes. ``function`` is sent once a process, a task once.
        """
        if self.workers == 1:
            yield from map(function, tasks)
            return
        before = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        start = max(1, cores() // self.workers), _pack(function)
        pool = ProcessPoolExecutor(self.workers, context, _start_worker, start)
        waiting = map(_pack, tasks)
        try:
            pending: set[Future[bytes]] = {_submit(pool, task) for task in islice(waiting, self.workers + 1)}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {_submit(pool, task) for task in islice(waiting, len(done))}
                yield from (_unpack(future.result()) for future in done)
            pool.shutdown()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()


def _submit(pool: ProcessPoolExecutor, task: bytes) -> Future[bytes]:
    """Send a task, which may start a worker: one that leaves interrupts to its parent from its first moment on."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return pool.submit(_work, task)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        return pool.submit(_work, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _local(workers: int | None) -> AbstractContextManager[Executor]:
    return nullcontext(LocalExecutor(workers or cores()))


def _ray(workers: int | None) -> AbstractContextManager[Executor]:
    from dfml.compute.ray_executor import join_cluster

    return join_cluster(workers)


EXECUTORS: dict[str, Callable[[int | None], AbstractContextManager[Executor]]] = {"local": _local, "ray": _ray}

_packed_function = b""  # of a worker


def _start_worker(threads: int, packed_function: bytes) -> None:
    """A worker ends when its parent is gone."""
    global _packed_function
    _packed_function = packed_function
    torch.set_num_threads(threads)
    keep_freed_memory()

    def follow() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _work(task: bytes) -> bytes:
    return _pack(_function()(_unpack(task)))


@cache
def _function() -> Callable[[Any], Any]:
    return _unpack(_packed_function)


def _pack(value: Any) -> bytes:
    """For another process of ours. Sent as it is, a tensor would go through shared memory, of which containers have
    little."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpack(packed: bytes) -> Any:
    """What `_pack` made, a moment ago and of our own values: no pickle of a stranger comes here."""
    return torch.load(io.BytesIO(packed), weights_only=False)
