"""What another package announces by entry points is found, trains, and is held to the contracts.

The package is that of docs/extend.md, with a learner beside it: the examples, and what an installer writes of its
pyproject.toml.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from outsiders import announce, install_newcomer

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
LEARNER = """
import torch.nn.functional as F

from dfml.learners import AbstractLearner, FrozenLearner
from dfml.learners.base import centroid_head, class_means, percent_right


class Plain(AbstractLearner):
    kind, options = "plain", {}

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    @property
    def networks(self):
        return [self.encoder]

    def _adapt(self, support_x, support_y, *, norm):
        return FrozenLearner(self.encoder).adapt(support_x, support_y, norm=norm)

    def meta_loss(self, episode):
        means = class_means(self.encoder(episode.support_x), episode.support_y, episode.way)
        logits = F.linear(self.encoder(episode.query_x), *centroid_head(means))
        return F.cross_entropy(logits, episode.query_y), percent_right(logits, episode.query_y)
"""
ZOO = """
import pathlib, torch, add_a_loader
for name in ("first", "second"):
    means = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(len(name)))
    pathlib.Path("zoo").mkdir(exist_ok=True)
    add_a_loader.write(pathlib.Path("zoo"), name, ["a", "b", "c"], means)
"""


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages with the newcomer's in it."""
    site = tmp_path / "site"
    install_newcomer(site, {"dfml.learners": {"plain": "plain:Plain"}})
    (site / "plain.py").write_text(LEARNER)
    return site


def run(site: Path, *words: object, folder: Path | None = None, code: int = 0) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(site), str(TESTS), *sys.path])
    ran = subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=folder or ROOT,
        check=False,
    )
    assert ran.returncode == code, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran


def test_what_another_package_announces_is_held_to_the_contracts(site):
    files = [TESTS / "contracts" / f"test_{name}.py" for name in ("methods", "learners", "loaders")]
    chosen = ["-k", "echo or climb or plain or means", "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]
    ran = run(site, *chosen[2:], *chosen[:2], *files)
    passed = [line for line in ran.stdout.splitlines() if line.startswith("PASSED")]
    counts = {
        name: sum(f"{name}]" in line or f"-{name}" in line for line in passed) for name in ("echo", "climb", "means")
    }
    assert counts["echo"] >= 5, passed
    assert counts["climb"] >= 3, passed
    assert counts["means"] == 1, passed
    assert sum("plain" in line for line in passed) >= 10, passed


@pytest.mark.slow
def test_the_newcomer_s_method_and_recovery_train_on_the_newcomer_s_models(site, tmp_path):
    run(site, "-c", ZOO, folder=tmp_path)
    words = ["-m", "dfml", "train", "--method", "echo", "--recovery", "climb", "--zoo", "zoo", "--out", "run"]
    run(site, *words, "--steps", "2", "--recovery.steps", "3", "--method.lr", "0.01", folder=tmp_path)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    about = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert about["method"] == {"name": "echo", "lr": 0.01}
    assert about["recovery"] == {"name": "climb", "steps": 3, "lr": 0.1}
    run(site, "-m", "dfml", "train", "--out", "run", "--resume", "--steps", "3", folder=tmp_path)
    without = run(tmp_path, "-m", "dfml", "train", "--out", "run", "--resume", "--steps", "4", folder=tmp_path, code=2)
    assert "echo" in without.stderr
    assert "Traceback" not in without.stderr


@pytest.mark.slow
def test_the_newcomer_s_learner_trains_and_its_file_is_read(site, tmp_path):
    small = [
        "--method.warmup-steps",
        "0",
        "--method.images-per-class",
        "4",
        "--replay.queries",
        "2",
        "--network.width",
        "4",
    ]
    words = ["-m", "dfml", "train", "--recipe", "free", "--learner", "plain", "--zoo", "glyphs", "--out", "run"]
    run(site, *words, "--steps", "1", "--method.rounds", "1", *small, folder=tmp_path)
    script = "from dfml.learners.learner_file import load_learner; print(load_learner('run').kind)"
    assert run(site, "-c", script, folder=tmp_path).stdout.strip() == "plain"
    assert "'plain', not one of maml" in run(tmp_path, "-c", script, folder=tmp_path, code=1).stderr


def test_a_package_that_is_broken_or_takes_a_name_stops_nobody(site, tmp_path):
    announce(site, "careless", {"dfml.methods": {"broken": "nowhere:Nothing", "free": "add_a_method:Echo"}})
    ran = run(site, "-m", "dfml", "train", "--method", "echo", "--recovery", "climb", "--show", folder=tmp_path)
    assert 'name = "echo"' in ran.stdout
    assert "dfml.methods broken = nowhere:Nothing of careless is left out: it cannot be imported" in ran.stderr
    assert "dfml.methods free = add_a_method:Echo of careless is left out: its name is taken" in ran.stderr
