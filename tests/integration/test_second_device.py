"""Training away from the CPU: nothing is left behind, and the device is waited for a few times a step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(recipe: str, learner: str, zoo: str) -> tuple[dict, dict]:
    """What it says of the CPU and of the second device."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    ran = subprocess.run(
        [sys.executable, HERE / "second_device.py", recipe, learner, zoo],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths + os.pathsep + os.environ.get("PYTHONPATH", "")},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    cpu, second = json.loads(ran.stdout)
    return cpu, second


@pytest.mark.parametrize(("recipe", "learner"), [("free", "protonet"), ("free", "maml"), ("best", "-")])
def test_a_second_device_gives_the_numbers_of_the_cpu_and_is_seldom_waited_for(recipe, learner, zoo_path):
    cpu, second = run(recipe, learner, zoo_path)
    for here, there in zip(cpu["metrics"], second["metrics"], strict=True):
        assert here.keys() == there.keys()
        for name in here.keys() - {"recover_seconds"}:
            assert there[name] == pytest.approx(here[name], rel=1e-3, abs=1e-4), name
    assert not [place for place in second["reads"] if "inner.py" in place or "engines.py" in place], second["reads"]
    assert len(second["reads"]) <= 8, second["reads"]


def test_a_teacher_trained_on_a_second_device_is_that_of_the_cpu():
    cpu, second = run("zoo", "-", "glyphs")
    assert second["metrics"] == cpu["metrics"]
    assert not [place for place in second["reads"] if "loss" in place or "total" in place], second["reads"]
