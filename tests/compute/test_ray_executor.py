"""Jobs on a real Ray cluster of two machines of one CPU (processes here), of which some die."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch

from built_zoo import build
from dfml.compute.local import start_executor
from dfml.errors import InputError
from dfml.zoo import Zoo
from dfml.zoo_building.plan import TrainingRecipe

pytest.importorskip("ray")
SLOWER = TrainingRecipe(epochs=24, batch_size=16)


class TwoMachines:
    """A cluster without CPUs at its head and with two workers, `kill` one and `repair`."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        quiet = {"num_cpus": 0, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=quiet)
        self.workers = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def kill(self) -> None:
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def repair(self) -> None:
        while len(self.workers) < 2:
            self.workers.append(self.cluster.add_node(num_cpus=1))


@pytest.fixture(scope="module")
def machines():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the workers import the same dfml as these tests
        machines = TwoMachines()
        patch.setenv("RAY_ADDRESS", machines.cluster.address)
        yield machines
        machines.cluster.shutdown()


@pytest.mark.slow
def test_a_killed_machine_loses_no_model_and_trains_none_twice(machines, tmp_path):
    machines.repair()
    told = []

    def hear(done: int, models: int, mean: float) -> None:
        told.append(done)
        if done == 2:
            time.sleep(0.3)  # both machines are at work again
            machines.kill()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = build(tmp_path / "here" / "zoo", models=6, training=SLOWER)
    finally:
        torch.set_num_threads(threads)
    there = build(tmp_path / "there" / "zoo", models=6, training=SLOWER, jobs=None, executor="ray", on_model=hear)
    assert told == list(range(7))
    assert there.hash == here.hash
    assert len(list((tmp_path / "there" / "zoo").glob("*.safetensors"))) == 6
    assert Zoo.open(tmp_path / "there" / "zoo").hash == here.hash


def test_errors_arrive_as_themselves_and_at_once_and_tasks_are_made_lazily(machines, tmp_path):
    made = []

    def tasks():
        for k in range(100):
            made.append(k)
            yield k

    released = tmp_path / "released"

    def work(k: int) -> torch.Tensor:
        if k == 1:
            (tmp_path / f"try-{time.time_ns()}").write_text("")
            raise InputError("1", "another number", "add one")
        while not released.exists():  # so that none ends before the error, however late its worker starts
            time.sleep(0.05)
        return torch.full((2,), float(k))

    with start_executor("ray") as jobs:
        with pytest.raises(InputError, match="another number") as caught:
            list(jobs.run(work, tasks()))
        assert type(caught.value) is InputError
        assert len(made) <= 8
        assert len(list(tmp_path.glob("try-*"))) == 1, "tried again"
        released.touch()
        assert sorted(float(v[0]) for v in jobs.run(work, [0, 2, 4])) == [0, 2, 4]


@pytest.mark.slow
def test_what_a_dead_machine_was_doing_is_done_again(machines, tmp_path):
    machines.repair()

    def work(k: int) -> int:  # inside a function, so that it travels by value
        with (Path(tmp_path) / "starts").open("a") as file:
            file.write(f"{k}\n")
        time.sleep(2.0)
        return k

    results = []
    with start_executor("ray") as jobs:
        for k in jobs.run(work, range(6)):
            results.append(k)
            if len(results) == 2:
                time.sleep(1.0)  # both machines are at work again
                machines.kill()
    assert sorted(results) == list(range(6))
    starts = [int(line) for line in (tmp_path / "starts").read_text().split()]
    assert set(starts) == set(range(6))
    assert len(starts) > 6, "the machine died while it was working"


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install -e .\.\[cluster\]"), start_executor("ray"):
        pass


@pytest.mark.slow
def test_without_an_address_a_cluster_of_this_machine_comes_and_goes(monkeypatch):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with start_executor("ray", 2) as jobs:
        assert jobs.workers == 2
        assert sorted(jobs.run(abs, [-1, -2, -3])) == [1, 2, 3]
    assert not ray.is_initialized()


def test_an_address_without_a_cluster_is_explained(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match="correct RAY_ADDRESS"), start_executor("ray"):
        pass
