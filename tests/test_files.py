import contextlib
import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dfml import files
from dfml.errors import InputError
from dfml.files import (
    append_line,
    content_hash,
    locked,
    printable,
    read_json,
    regular,
    sealed,
    to_json,
    unsealed,
    write_atomic,
    write_folder,
)


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
    assert json.loads(to_json({"a": float("nan"), "b": [1.5, float("inf")]})) == {"a": None, "b": [1.5, None]}
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


def test_the_lock_file_of_one_who_has_just_left_is_no_lock(tmp_path, monkeypatch):
    """Its file is opened, then removed by its holder, then locked: it must not count beside a new one."""
    take, calls = files._take, []

    def late(file):
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(file)
        return take(file)

    monkeypatch.setattr(files, "_take", late)
    with locked(tmp_path, "training"):
        assert len(calls) == 2
        with pytest.raises(InputError, match="is at work"), locked(tmp_path, "training"):
            raise AssertionError


def test_a_line_is_whole_or_not_there_when_the_disk_is_full(tmp_path):
    resource = pytest.importorskip("resource")
    script = "import sys, pathlib, dfml.files as f\nwhile True: f.append_line(pathlib.Path(sys.argv[1]), {'step': 1})"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "lines"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert "cannot be written (File too large)" in done.stderr
    assert set((tmp_path / "lines").read_text().splitlines(keepends=True)) == {'{"step": 1}\n'}


def test_an_old_folder_stands_until_the_new_one_is_there(tmp_path, monkeypatch):
    write_folder(tmp_path / "f", {"a": lambda path: path.write_text("old")})
    rename = Path.rename

    def failing(self, target):
        if Path(target) == tmp_path / "f" and not self.name.endswith("-old"):
            raise OSError("no room")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(InputError, match="no room"):
        write_folder(tmp_path / "f", {"a": lambda path: path.write_text("new")})
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".writing-step-7-123").mkdir()
    (tmp_path / ".config.json.123.tmp").write_text("half")
    (tmp_path / "kept").write_text("whole")
    files.clear_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(b"1" * 100)
    for name, said in (
        ("pipe", "no regular file"),
        ("device", "no regular file"),
        (".", "a folder"),
        ("none", "No such"),
    ):
        with pytest.raises(OSError, match=said):
            regular(tmp_path / name)
    with pytest.raises(OSError, match="100 bytes; files of this kind are read up to 99"):
        regular(tmp_path / "large", 99)
    assert regular(tmp_path / "large", 100) == tmp_path / "large"


@pytest.mark.parametrize("depth", [300, 500, 700, 900, 1100, 100_000])
def test_json_that_is_read_can_be_hashed_and_what_is_nested_too_deep_is_no_json(tmp_path, depth):
    (tmp_path / "deep.json").write_text("[" * depth + "]" * depth)
    if depth > 1000:
        with pytest.raises(ValueError, match="nested too deep"):
            read_json(tmp_path / "deep.json")
        return
    with contextlib.suppress(ValueError):  # how deep is too deep is Python's affair
        content_hash(read_json(tmp_path / "deep.json"))


def test_a_terminal_is_not_steered_by_names():
    assert printable("a\x1b[2Jb\rc\nd\udce9") == "a\\x1b[2Jb\\rc\nd\\udce9"


def test_a_new_folder_takes_away_what_a_killed_process_left_of_it(tmp_path):
    for name in (".writing-step-1-4711", ".writing-step-1-4711-old", ".writing-step-2-4711"):
        (tmp_path / name).mkdir()
    write_folder(tmp_path / "step-1", {"a": Path.touch})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".writing-step-2-4711", "step-1"]


def test_a_disk_too_full_for_the_name_of_whoever_locks_a_folder_is_named(tmp_path, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dfml.files._user", full)
    with pytest.raises(InputError, match=r"\.lock: cannot be written \(No space"), locked(tmp_path, "training"):
        pass
