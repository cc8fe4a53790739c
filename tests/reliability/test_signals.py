"""Signals and kills at a spread of moments of whole programs; `make reliability`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import OPTIONS

from dfml.cli import main
from dfml.runs.run_folder import RunFolder

pytestmark = pytest.mark.reliability

MOMENTS = [0.1 * k for k in range(1, 25)]  # seconds after the start; Python itself takes the first few hundredths
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def begun(*words: object) -> subprocess.Popen:
    """A command in a session of its own, with signals as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "dfml", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in WATCHED],
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def train(place: Path, out: Path) -> tuple[object, ...]:
    return ("train", "--zoo", place / "zoo", "--out", out, "--steps", 100000, *OPTIONS)


@pytest.mark.parametrize("signum", WATCHED)
def test_training_stops_at_any_moment_and_the_command_goes_on_or_begins_anew(place, tmp_path, signum):
    for number, moment in enumerate(MOMENTS):
        out = tmp_path / str(number)
        process = begun(*train(place, out))
        time.sleep(moment)
        process.send_signal(signum)
        code, errors = ended(process)
        assert (code, "Traceback" in errors) == (128 + signum, False), (moment, errors)
        assert RunFolder(out).checkpoints.latest() is not None if out.exists() else True, moment


def test_a_second_signal_ends_at_once(place, tmp_path):
    for number, moment in enumerate(MOMENTS[::4]):
        process = begun(*train(place, tmp_path / str(number)))
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        code, errors = ended(process)
        assert (code, "Traceback" in errors) == (130, False), (moment, errors)
        assert time.monotonic() - start < 5


def test_a_kill_at_the_birth_of_a_run_folder_leaves_one_that_begins_anew_or_goes_on(place, tmp_path):
    for number in range(12):
        out = tmp_path / str(number)
        process = begun(*train(place, out))
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob(f"*{number}*")) and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(0.002 * number)
        process.kill()
        ended(process)
        resume = ["--resume", "--steps", "1"] if (out / "config.json").exists() else ["--steps", "1", *OPTIONS]
        assert main(["train", "--zoo", str(place / "zoo"), "--out", str(out), *resume]) == 0
        shutil.rmtree(out)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_zoo_build_that_they_work_for(place, tmp_path, signum):
    for moment in (1.0, 3.0, 5.0):
        out = tmp_path / str(moment)
        process = begun("zoo", "build", "--data", place / "data", "--out", out, "--models", 50, "--jobs", 2)
        time.sleep(moment)
        process.send_signal(signum)
        code, errors = ended(process)
        assert code == (-signum if signum == signal.SIGKILL else 128 + signum)
        assert "Traceback" not in errors
        deadline = time.monotonic() + 20
        while left := in_session(process.pid):
            assert time.monotonic() < deadline, left
            time.sleep(0.2)


def in_session(session: int) -> list[str]:
    """What still runs of a session."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "pid=,args="], capture_output=True, text=True).stdout
    return found.splitlines()
