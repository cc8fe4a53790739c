"""A method, a recovery and a learner of another package are found by their entry points, and held to the contracts."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
from dfml.learners import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState, Role
from dfml.methods.single_teacher import SingleTeacher
from dfml.recovery.base import AbstractRecovery, Canvas, Recovered
from dfml.zoo.card import Capability
import torch


class Last(AbstractBaseline):
    \"\"\"The last model of a zoo. https://example.org

    *Deviations from the published code*: none.
    \"\"\"

    def requires(self):
        return {Role.START: Capability.FEATURES}

    def init(self, zoo, rng):
        return SingleTeacher(teacher=zoo.ids[-1]).init(zoo, rng)


class Grey(AbstractRecovery):
    def requires(self):
        return Capability(0)

    def init(self, canvas, rng):
        return Canvas(canvas)

    def recover(self, state, visits, *, rng, learn=True, ranks=None):
        grey = [torch.full((len(v.labels), *state.spec.shape), 0.5) for v in visits]
        return [Recovered(images, visit.labels, {"grey": 0.5}) for images, visit in zip(grey, visits)]
"""
ENTRIES = """
[dfml.methods]
last = outside:Last
[dfml.recoveries]
grey = outside:Grey
"""


def test_what_another_package_announces_is_held_to_the_contracts(tmp_path):
    (tmp_path / "outside.py").write_text(CODE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tmp_path), str(tests), *sys.path])
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", "last or grey"]
    ran = subprocess.run(
        [*command, str(tests / "contracts" / "test_methods.py")],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=tests.parent,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    passed = [line for line in ran.stdout.splitlines() if line.startswith("PASSED")]
    assert sum("[last]" in line for line in passed) >= 4, passed
    assert sum("[grey]" in line for line in passed) >= 3, passed
