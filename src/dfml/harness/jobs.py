"""Where independent jobs run: in this process, or in others. One function, so that a cluster can take its place."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

from dfml.harness.memory import keep_freed_memory

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int) -> Iterator[Result]:
    """``function`` of each task, in the order in which they finish.

    One worker runs them here. Several run in processes that share the cores among them; at most ``workers`` + 1
    tasks are made ahead, and leaving the iteration early (an interrupt, too) ends the processes.

    Args:
        function: of a module's top level; it and the tasks are pickled.
        tasks: made lazily.
        workers: processes.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (max(1, cores() // workers),))
    waiting = iter(tasks)
    try:
        pending: set[Future[Result]] = {pool.submit(function, task) for task in islice(waiting, workers + 1)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending |= {pool.submit(function, task) for task in islice(waiting, len(done))}
            yield from (future.result() for future in done)
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()


def _start_worker(threads: int) -> None:
    """A worker leaves interrupts to its parent, and ends when its parent is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    keep_freed_memory()

    def follow() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
