"""A run shared by two processes: the same numbers as one, and nothing lost when one is killed.

Processes that share a batch add its parts in another order than one process does. What that changes in the last bit,
Adam makes large within a few steps; so the bits are compared where batches are not shared.
"""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

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
from dfml.errors import LostRank
from dfml.harness.runtime import launch
from dfml.harness import loop
import dfml.nn.precision

zoo, out, killed, share, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "share", int(sys.argv[5])
if share:
    dfml.nn.precision.bfloat16_is_fast = lambda: False
rank = int(os.environ["RANK"])
if killed and rank == 1:
    step = loop.Loop._one_step
    def one_step(self, state):
        if state.step == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, state)
    loop.Loop._one_step = one_step
try:
    options = {**FREE, "method.replay_episodes": 3, "run.share_batches": share}
    train(zoo, out=out, recipe="free", steps=steps, overrides=options)
except LostRank:
    raise SystemExit(1)
_, ranks = launch("cpu", share_batches=share)
assert ranks.of_a_batch.world == 1 + share
for count in (1, 5):
    got = ranks.map(lambda i: [torch.full((i + 1,), float(i)), torch.tensor([[float(rank)]])], range(count))
    assert [t.tolist() for t, _ in got] == [[float(i)] * (i + 1) for i in range(count)], got
    assert [int(r) for _, r in got] == [i % 2 for i in range(count)], got
"""


def together(folder: Path, zoo: Path, *, killed: int = 0, share: bool = False, steps: int = STEPS):
    """The worker script in two processes of one thread, into ``folder / "run"``."""
    arguments = [str(zoo), str(folder / "run"), str(killed), "share" if share else "alone", str(steps)]
    script = folder / "worker.py"
    script.write_text(WORKER)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def alone(zoo_path, tmp_path_factory):
    options = {**FREE, "method.replay_episodes": 3, "run.threads": 1}
    return train(zoo_path, out=tmp_path_factory.mktemp("alone") / "run", recipe="free", steps=STEPS, overrides=options)


def learned(run):
    """Every number of the checkpoint that training uses: BatchNorm's count of batches is none of them."""

    def floats(tree):
        if isinstance(tree, dict):
            return {k: floats(v) for k, v in tree.items() if not str(k).endswith("num_batches_tracked")}
        return tree

    return floats(run.folder.checkpoints.latest()["state"])


def test_two_processes_train_the_same_run_to_the_bit(alone, zoo_path, tmp_path):
    done = together(tmp_path, zoo_path)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    assert lines(run) == lines(alone)
    assert same(learned(run), learned(alone))


def test_a_killed_process_ends_the_run_and_another_number_of_them_resumes_it(alone, zoo_path, tmp_path):
    done = together(tmp_path, zoo_path, killed=3)
    assert done.returncode != 0
    assert "another process of this run is gone" in done.stderr
    assert "continue with --resume" in done.stderr
    saved = Run.open(tmp_path / "run").folder.checkpoints.latest()
    assert saved["step"] < STEPS
    run = train(zoo_path, out=tmp_path / "run", steps=STEPS, resume=True)
    assert lines(run) == lines(alone)
    assert same(learned(run), learned(alone))


def test_processes_that_share_batches_train_the_same_run_up_to_rounding(zoo_path, tmp_path):
    done = together(tmp_path, zoo_path, share=True, steps=2)
    assert done.returncode == 0, done.stderr
    with patch("dfml.nn.precision.bfloat16_is_fast", lambda: False):
        options = {**FREE, "method.replay_episodes": 3, "run.threads": 1}
        alone = train(zoo_path, out=tmp_path / "alone", recipe="free", steps=2, overrides=options)
    run = Run.open(tmp_path / "run")
    for line, expected in zip(lines(run), lines(alone), strict=True):
        assert line == pytest.approx(expected, rel=1e-5)
    assert "distillation" in line
    banks = [r.folder.checkpoints.latest()["state"]["bank"] for r in (run, alone)]
    assert same(*banks)
