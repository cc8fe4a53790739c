"""Executor in this process and in others: all done, errors arrive, tensors travel, leaving early ends everything."""

import multiprocessing
import time

import pytest
import torch

from dfml.compute.executor import SERIAL, in_order, parts
from dfml.compute.local import start_executor
from dfml.errors import InputError


def double(number: int) -> int:
    if number == 13:
        raise InputError("13", "a lucky number", "add one")
    return 2 * number


def late(number: int) -> int:
    time.sleep(0.5 if number == 0 else 0.0)
    return number


def mean(images: torch.Tensor) -> torch.Tensor:
    return images.mean(0)


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_all_done_and_errors_arrive(workers):
    with start_executor(workers=workers) as jobs:
        assert jobs.workers == workers
        assert sorted(jobs.run(double, iter(range(5)))) == [0, 2, 4, 6, 8]
        with pytest.raises(InputError, match="lucky"):
            list(jobs.run(double, [13, 1]))


def test_tensors_travel_and_tasks_are_made_lazily():
    made = []

    def tasks():
        for k in range(20):
            made.append(k)
            yield torch.full((3, 2), float(k))

    with start_executor(workers=2) as jobs:
        results = jobs.run(mean, tasks())
        first = next(results)
        assert first.shape == (2,)
        assert len(made) <= 6
        results.close()
    deadline = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not multiprocessing.active_children()


def test_no_more_workers_than_tasks():
    with start_executor(workers=8, tasks=3) as jobs:
        assert jobs.workers == 3
    with start_executor(workers=8, tasks=0) as jobs:
        assert jobs.workers == 1


@pytest.mark.parametrize(("executor", "workers", "words"), [("dask", 1, "local, ray"), ("local", 0, "at least 1")])
def test_what_cannot_start_is_explained(executor, workers, words):
    with pytest.raises(InputError, match=words), start_executor(executor, workers):
        pass


def test_results_are_put_in_order():
    assert list(in_order(SERIAL, double, range(4))) == [0, 2, 4, 6]
    with start_executor(workers=2) as jobs:
        assert list(in_order(jobs, late, range(4))) == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "workers", "each"), [(7, 2, 1), (7, 3, 2), (2, 5, 4), (0, 2, 1), (600, 2, 4)])
def test_parts_cover_everything_once(count, workers, each):
    with start_executor(workers=workers) as jobs:
        cut = parts(count, jobs, each=each)
    assert [i for part in cut for i in part] == list(range(count))
    assert len(cut) <= each * workers
    assert [len(part) for part in parts(count, SERIAL)] == [1] * count
