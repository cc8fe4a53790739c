"""Jobs on a Ray cluster (extra ``cluster``): the same jobs, on many machines.

A worker or a machine that dies costs the jobs that it was running; Ray runs them again elsewhere. Jobs only return
results and the process that asked for them takes each one once, so nothing is lost and nothing done twice.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any

import torch

from dfml.compute.devices import cores
from dfml.compute.executor import Result, Task
from dfml.compute.memory import keep_freed_memory
from dfml.errors import InputError

IN_FLIGHT = 2  # jobs a CPU of the cluster: one that runs, and one that is there when it ends


@dataclass(frozen=True)
class RayExecutor:
    """Jobs of one CPU and one thread each.

    Args:
        ray: the module.
        workers: CPUs of the cluster, or the number that was asked for.
        limit: jobs in flight; None is two a CPU that the cluster has at that moment.
    """

    ray: Any
    workers: int
    limit: int | None

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """``function`` of each task, in the order in which they finish.

        Tasks are made when there is room for them. Leaving the iteration early cancels what is in flight. A job whose
        worker dies is run again, for ever; an exception of ``function`` is raised here as itself and not tried again.
        """
        ray = self.ray
        work = ray.remote(num_cpus=1, max_retries=-1, retry_exceptions=False)(_work)
        shared, waiting = ray.put(function), iter(tasks)
        flying: list[Any] = []
        try:
            while True:
                room = (self.limit or IN_FLIGHT * cluster_cpus(ray)) - len(flying)
                flying += [work.remote(shared, task) for task in islice(waiting, max(0, room))]
                if not flying:
                    return
                done, flying = ray.wait(flying, num_returns=1)
                yield self._result(done[0])
        finally:
            for reference in flying:
                ray.cancel(reference, force=True)

    def _result(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error


@contextmanager
def join_cluster(workers: int | None) -> Iterator[RayExecutor]:
    """The cluster of RAY_ADDRESS, or one on this machine for as long as the block lasts.

    Args:
        workers: jobs at once; None is one a CPU of the cluster.

    Raises:
        InputError: Ray is not installed, or there is no cluster at RAY_ADDRESS.
    """
    ray, address = _import_ray(), os.environ.get("RAY_ADDRESS")
    ours = not ray.is_initialized()
    if ours:
        # Without an address Ray would look for any cluster that this machine has ever started.
        own: dict[str, Any] = {} if address else {"num_cpus": workers or cores(), "include_dashboard": False}
        try:
            _knock(address)
            ray.init(address=address or "local", logging_level="warning", log_to_driver=False, **own)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"RAY_ADDRESS={address}: no cluster to join ({' '.join(str(error).split())[:200]})",
                "the address of a running cluster, as `ray start --head` prints it",
                "correct RAY_ADDRESS (and set RAY_AUTH_MODE=token where the cluster asks for one), "
                "or unset it to use this machine alone",
            ) from error
    try:
        yield RayExecutor(ray, workers or cluster_cpus(ray), workers)
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Whether somebody listens at ``host:port``: where nobody does, Ray itself tries for many minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()


def cluster_cpus(ray: Any) -> int:
    """CPUs of the cluster's living machines, at least one: more may come."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def _import_ray() -> Any:
    try:
        return import_module("ray")  # by name: the core imports no extra
    except ImportError as error:
        raise InputError(
            f"--executor ray, and no Ray to import ({error})",
            "Ray, which is an extra",
            "in the clone of dfml: pip install -e '.[cluster]'; or leave --executor out",
        ) from error


def _work(function: Callable[[Task], Result], task: Task) -> Result:
    torch.set_num_threads(1)
    keep_freed_memory()
    return function(task)
