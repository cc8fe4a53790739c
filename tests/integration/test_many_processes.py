"""A run shared by two processes: the same numbers as one, and nothing lost when one is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import FREE
from test_free_run import lines, same

from dfml import Run, train

STEPS = 5
WORKER = """
import os, signal, sys
import torch
from small import FREE
from dfml import train
from dfml.errors import LostRank, NoAnswer
from dfml.compute.fabric import launch
from dfml.runs import loop

zoo, out, resume, killed = sys.argv[1], sys.argv[2], sys.argv[3] == "resume", int(sys.argv[4])
rank = int(os.environ["RANK"])
if killed and rank == 1:
    step = loop.Loop._step
    def one_step(self, state, rng):
        if state.step == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, state, rng)
    loop.Loop._step = one_step
try:
    train(zoo, out=out, recipe="free", steps=5, overrides={**FREE, "replay.episodes": 3}, resume=resume)
except LostRank:
    raise SystemExit(1)
_, ranks = launch("cpu")
for count in (1, 5):
    got = ranks.map(lambda i: [torch.full((i + 1,), float(i)), torch.tensor([[float(rank)]])], range(count))
    assert [t.tolist() for t, _ in got] == [[float(i)] * (i + 1) for i in range(count)], got
    assert [int(r) for _, r in got] == [i % 2 for i in range(count)], got


def one_away(i):
    if i == 1:
        raise NoAnswer("b", "away", "start it", comes_back=False)
    return [torch.zeros(2)]


try:
    ranks.map(one_away, range(3))
except NoAnswer as error:  # in both processes, so that they go on alike
    assert (error.teacher, error.reason, error.comes_back, error.everywhere) == ("b", "away", False, True)
else:
    raise AssertionError("no error")
assert len(ranks.map(lambda i: [torch.zeros(2)], range(3))) == 3
"""


def together(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The worker script in two processes of one thread."""
    script = folder / "worker.py"
    script.write_text(WORKER)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def alone(zoo_path, tmp_path_factory):
    options = {**FREE, "replay.episodes": 3, "run.threads": 1}
    return train(zoo_path, out=tmp_path_factory.mktemp("alone") / "run", recipe="free", steps=STEPS, overrides=options)


def learned(run):
    """Every number of the checkpoint that training uses: BatchNorm's count of batches is none of them."""

    def floats(tree):
        if isinstance(tree, dict):
            return {k: floats(v) for k, v in tree.items() if not str(k).endswith("num_batches_tracked")}
        return tree

    return floats(run.folder.checkpoints.latest()["state"])


def test_two_processes_train_the_same_run_to_the_bit(alone, zoo_path, tmp_path):
    done = together(tmp_path, str(zoo_path), str(tmp_path / "run"), "new", "0")
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    assert lines(run) == lines(alone)
    assert same(learned(run), learned(alone))


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_another_number_of_them_resumes_it(alone, zoo_path, tmp_path):
    done = together(tmp_path, str(zoo_path), str(tmp_path / "run"), "new", "3")
    assert done.returncode != 0
    assert "another process of this run is gone" in done.stderr
    assert "continue with --resume" in done.stderr
    saved = Run.open(tmp_path / "run").folder.checkpoints.latest()
    assert saved["step"] < STEPS
    run = train(zoo_path, out=tmp_path / "run", steps=STEPS, resume=True)
    assert lines(run) == lines(alone)
    assert same(learned(run), learned(alone))
