import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dfml.errors import InputError
from dfml.files import append_line, content_hash, locked, sealed, to_json, unsealed, write_atomic, write_folder


def test_a_seal_is_over_every_value():
    values = {"a": 1, "b": {"c": [0.5, None, "é"]}}
    whole = sealed(values)
    path = Path("there.json")
    assert unsealed(json.loads(to_json(whole)), path, "do") == values
    assert sealed(whole) == whole
    assert unsealed(values, path, "do") == values, "a file without one is older, or written by hand"
    for changed in (
        whole | {"a": 2},
        whole | {"d": 1},
        whole | {"b": {}},
        {k: v for k, v in whole.items() if k != "a"},
    ):
        with pytest.raises(InputError, match=r"there\.json: changed since it was written"):
            unsealed(changed, path, "do")


def test_json_is_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash([float("inf")])
    assert json.loads(to_json({"name": "caf\udce9 图"})) == {"name": "caf\udce9 图"}


def test_a_file_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"file: cannot be written .No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_folder_is_the_old_or_the_new_one(tmp_path):
    folder = tmp_path / "folder"
    write_folder(folder, {"a": lambda p: p.write_text("1"), "b": lambda p: p.write_text("2")})
    assert (folder / "b").read_text() == "2"

    def full(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"folder: cannot be written .No space left"):
        write_folder(folder, {"a": lambda p: p.write_text("3"), "b": full})
    assert (folder / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_line_that_cannot_be_written_is_said(tmp_path):
    append_line(tmp_path / "lines", {"a": 1})
    append_line(tmp_path / "lines", {"b": 2})
    assert (tmp_path / "lines").read_text() == '{"a": 1}\n{"b": 2}\n'
    with pytest.raises(InputError, match="cannot be written"):
        append_line(tmp_path, {"a": 1})


HOLD = """
    import sys, time
    from pathlib import Path
    from dfml.files import locked
    with locked(Path(sys.argv[1]), "training"):
        print("mine", flush=True)
        time.sleep(60)
"""


def test_two_at_once_are_told_apart_and_a_killed_one_leaves_no_lock(tmp_path):
    held = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert held.stdout.readline() == "mine\n"
        words = rf"process {held.pid} on \S+, training since \d{{4}}-\S+ is at work in it"
        with pytest.raises(InputError, match=words), locked(tmp_path, "training"):
            raise AssertionError
    finally:
        held.kill()
        held.wait()
    assert (tmp_path / ".lock").exists(), "what SIGKILL leaves"
    with locked(tmp_path, "training"):
        assert f"process {os.getpid()}" in (tmp_path / ".lock").read_text()
    assert not (tmp_path / ".lock").exists()
