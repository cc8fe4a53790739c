import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from dfml import lock
from dfml.errors import InputError
from dfml.lock import LOCK, only_writer

HOLD = """
import sys, time
from pathlib import Path
from dfml.lock import only_writer
with only_writer(Path(sys.argv[1]), "trained"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_told_of_the_first(tmp_path, holder):
    with pytest.raises(InputError) as error, only_writer(tmp_path / "run", "trained"):
        pass
    for part in (f"process {holder.pid}", socket.gethostname(), "since 20", "trained by"):
        assert part in str(error.value)
    assert (tmp_path / "run" / LOCK).exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with only_writer(tmp_path / "run", "trained"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / LOCK).exists()


def test_within_a_process_and_after_an_error(tmp_path):
    with (
        pytest.raises(InputError, match="is built by"),
        only_writer(tmp_path, "built"),
        only_writer(tmp_path, "built"),
    ):
        pass
    with only_writer(tmp_path, "built"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_of_which_nothing_came_is_not_left(tmp_path):
    with pytest.raises(RuntimeError), only_writer(tmp_path / "new", "built"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()


def test_without_locks_of_the_file_system_the_facts_decide(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(lock, "fcntl", None)
    path = tmp_path / "run" / LOCK
    with pytest.raises(InputError, match=f"process {holder.pid}"), only_writer(tmp_path / "run", "trained"):
        pass
    facts = json.loads(path.read_text())
    for change, free in (
        ({"host": "elsewhere"}, False),
        ({"started": "another time"}, True),  # its number is another process's now
        ({"pid": 2**22 + 1}, True),
    ):
        path.write_text(json.dumps(facts | change))
        if free:
            with only_writer(tmp_path / "run", "trained"):
                pass
        else:
            with pytest.raises(InputError, match="elsewhere"), only_writer(tmp_path / "run", "trained"):
                pass
