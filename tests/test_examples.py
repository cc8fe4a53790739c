"""The examples run, each in a process and a folder of its own, and print what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script: str, folder: Path, *options: str) -> str:
    command = [sys.executable, str(EXAMPLES / script), *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_an_example_is_short(script):
    assert len((EXAMPLES / script).read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.slow
def test_train_and_predict(tmp_path):
    shown = run("train_and_predict.py", tmp_path, "--steps", "3", "--updates", "40", "--out", "run")
    right, asked = map(int, re.search(r"(\d+) of (\d+) right", shown).groups())
    assert asked == 100
    assert right >= 33, "of 100, where chance is 20 and its standard deviation 4"
    assert {p.suffix for p in (tmp_path / "run" / "predictor").iterdir()} == {".json", ".safetensors"}


def test_build_a_zoo(tmp_path):
    shown = run("build_a_zoo.py", tmp_path, "--epochs", "1", "--out", "zoo")
    assert len(list((tmp_path / "zoo").glob("*.safetensors"))) == 2
    answered = re.search(r"calls (\d+) of 20 images", shown)
    assert answered, shown
    assert shown.count(": conv4, classes") == 2
