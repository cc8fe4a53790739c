import errno
import json
import os

import pytest

from dfml import files
from dfml.errors import InputError
from dfml.files import append_line, check_seal, finite, sealed, write_atomic, write_folder, write_json

WAYS = {
    "atomic": lambda path: write_atomic(path, b"new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "folder": lambda path: write_folder(path, {"a": b"new", "b": b"new"}),
    "line": lambda path: append_line(path, {"new": 1}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "free some space"), (errno.EFBIG, "free some space"), (errno.EROFS, "writable")]
)
def test_what_cannot_be_written_is_explained_and_leaves_the_old_one(tmp_path, monkeypatch, way, code, words):
    path = tmp_path / "thing"
    WAYS[way](path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    if way == "line":
        monkeypatch.setattr(files.Path, "open", fail)
    with pytest.raises(InputError) as error:
        WAYS[way](path)
    monkeypatch.undo()
    assert error.value.given == f"{path}: cannot be written ({os.strerror(code)})"
    assert words in error.value.do
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_folder_that_is_there_is_replaced_whole(tmp_path):
    write_folder(tmp_path / "f", {"a": b"1", "b": b"2"})
    write_folder(tmp_path / "f", {"a": b"3"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "f").iterdir()} == {"a": b"3"}
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_json_knows_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
    assert finite({"x": [float("inf"), 1.5], "y": (float("nan"), "é")}) == {"x": [None, 1.5], "y": [None, "é"]}
    append_line(tmp_path / "lines", {"x": float("nan")})
    assert json.loads((tmp_path / "lines").read_text()) == {"x": None}


def test_a_seal_notices_every_change(tmp_path):
    values = {"a": 1, "b": {"c": [0.1, None, "Ä"], 2: "two", 10: "ten"}, "d": (1, 2)}
    read = json.loads(json.dumps(sealed(values)))
    assert check_seal(tmp_path, read, "") == json.loads(json.dumps(values))
    assert sealed(read) == read
    for change in ({"a": 2}, {"b": {}}, {"new": None}, {"seal": "sha256:0"}, {"seal": 3}):
        with pytest.raises(InputError, match="changed since dfml wrote it"):
            check_seal(tmp_path / "card.json", read | change, "undo it")
    assert check_seal(tmp_path, {"a": 3}, "") == {"a": 3}, "a file without a seal is read as it is"
