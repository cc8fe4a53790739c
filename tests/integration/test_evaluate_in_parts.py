"""An evaluation gives the same numbers here, in two processes and on Ray."""

import pytest
import torch
from small import FREE

from dfml import evaluate_run, train
from dfml.compute.local import start_executor


@pytest.fixture(scope="module")
def run(zoo_path, tmp_path_factory):
    return train(zoo_path, out=tmp_path_factory.mktemp("parts") / "run", recipe="free", steps=2, overrides=FREE)


@pytest.fixture(scope="module")
def evaluated(run, data_path):
    """A function that evaluates with one thread, as the workers do."""

    def evaluate(**parts):
        done = []
        options = {"shots": (3,), "queries": 5, "episodes": 20, "baselines": True}
        return evaluate_run(run, data_path, progress=lambda i, n: done.append((i, n)), **options, **parts), done

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield evaluate
    torch.set_num_threads(threads)


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_parts_give_the_same_numbers(evaluated, executor, monkeypatch):
    if executor == "ray":
        pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here, one_by_one = evaluated()
    with start_executor(executor, 2) as running:
        there, in_parts = evaluated(executor=running)
    for kind, score in here.scores[3].items():
        assert torch.equal(score.per_episode, there.scores[3][kind].per_episode)
    one, other = here.baselines[3], there.baselines[3]
    assert one.teachers == other.teachers
    assert one.best_teacher == other.best_teacher
    for name in ("random", "single_teacher_mean", "single_teacher_best"):
        assert torch.equal(getattr(one, name).per_episode, getattr(other, name).per_episode)
    # Sums over teachers in another order may turn an answer that stood on the edge.
    assert one.zoo_ensemble.mean == pytest.approx(other.zoo_ensemble.mean, abs=0.5)
    assert one_by_one[-4:] == [(k, 4) for k in range(1, 5)]
    assert in_parts[-2:] == [(2, 4), (4, 4)]
