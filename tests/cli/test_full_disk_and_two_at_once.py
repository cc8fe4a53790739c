"""What happens to a run when the disk is full, and when two processes want it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import OPTIONS, make_zoo

from dfml.cli import main

resource = pytest.importorskip("resource")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("full") / "zoo")


def start(*words, limit=None):
    def bound():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "dfml", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=bound,
    )


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("limit", [4000, 20_000])
def test_a_full_disk_in_the_middle(zoo, tmp_path, limit, capsys):
    run = tmp_path / "run"
    assert main(["train", "--zoo", str(zoo), "--out", str(run), "--steps", "2", *OPTIONS]) == 0
    before = sorted(p.name for p in (run / "checkpoints").iterdir())
    full = start("train", "--resume", "--out", run, "--steps", "4", limit=limit)
    _, errors = full.communicate(timeout=120)
    assert full.returncode == 2, errors
    assert "cannot be written (File too large)" in errors.replace("\n", " ")
    assert "free some space" in errors
    assert "Traceback" not in errors
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == before
    assert not list(run.glob(".*"))
    assert main(["train", "--resume", "--out", str(run), "--steps", "4"]) == 0
    assert steps(run) == [1, 2, 3, 4]


def test_a_line_of_metrics_is_whole_or_not_there(tmp_path):
    script = "import sys, pathlib, dfml.files as f\nwhile True: f.append_line(pathlib.Path(sys.argv[1]), {'step': 1})"
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))}
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "m"], capture_output=True, text=True, **limits)
    assert "InputError" in done.stderr
    assert "cannot be written (File too large)" in done.stderr
    lines = (tmp_path / "m").read_text()
    assert lines.endswith("}\n")
    assert {json.loads(line)["step"] for line in lines.splitlines()} == {1}


def test_a_second_resume_is_refused_and_a_killed_one_leaves_the_folder_free(zoo, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--zoo", str(zoo), "--out", str(run), "--steps", "1", *OPTIONS]) == 0
    first = start("train", "--resume", "--out", run, "--steps", "100000")
    deadline = time.monotonic() + 120
    while len(steps(run)) < 3:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    capsys.readouterr()
    assert main(["train", "--resume", "--out", str(run), "--steps", "5"]) == 2
    error = capsys.readouterr().err
    for part in (f"process {first.pid}", "--resume", "is trained by", "since"):
        assert part in error
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (run / ".lock").exists()
    assert main(["train", "--resume", "--out", str(run), "--steps", "5"]) == 0
    assert steps(run) == [1, 2, 3, 4, 5]
    assert not list(run.glob(".*"))
