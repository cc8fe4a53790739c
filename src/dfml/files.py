"""Files that are there whole or not at all, and seals that notice a change by hand. All of dfml writes here."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfml.errors import InputError

SEAL = "seal"
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around whatever writes ``path``.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error})",
            "space on the disk" if full else "a place that you may write",
            ("free some space" if full else "make it writable") + ", then repeat the command; or change --out",
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: a reader, a kill or a full disk leaves the old file or the whole new one.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    work = _beside(path)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(work, content)
            os.replace(work, path)
        except BaseException:
            _remove(work)
            raise
        _sync(path.parent)


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files that appears by a rename, when all of it is on the disk; one that is there is replaced.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    work, old = _beside(folder), _beside(folder, "old")
    with writing(folder):
        try:
            _remove(work)
            work.mkdir(parents=True)
            for name, content in contents.items():
                _write_synced(work / name, content)
            _sync(work)
            if folder.exists():
                folder.rename(old)
            work.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            _remove(work)
            raise
        _remove(old)
        _sync(folder.parent)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, atomically.

    Raises:
        InputError: the disk is full, or the place cannot be written.
        ValueError: NaN or infinity, which JSON does not know; see `finite`.
    """
    write_atomic(path, encode(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"))


def encode(text: str) -> bytes:
    """JSON as UTF-8; half a character, as in the names of files of other days, becomes the escape that JSON has."""
    return text.encode("utf-8", "backslashreplace")


def append_line(path: Path, value: Any) -> None:
    """Append plain values as a line of JSON, whole or not at all; what is no finite number becomes null.

    Raises:
        InputError: the disk is full, or the file cannot be written.
    """
    line = (json.dumps(finite(value), allow_nan=False) + "\n").encode()
    with writing(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(line)
            if written is None or written < len(line):
                file.write(line[written or 0 :])  # says why there is no room for the rest
        except OSError:
            file.truncate(before)
            raise


def finite(value: Any) -> Any:
    """Plain values with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed writer left unfinished in a folder that nobody else writes."""
    for path in folder.glob(".*.tmp"):
        _remove(path)


def content_hash(values: Any) -> str:
    """``sha256:`` of plain values, as JSON with sorted keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with a checksum of their own."""
    return {key: value for key, value in values.items() if key != SEAL} | {SEAL: seal_of(values)}


def seal_of(values: Mapping[str, Any]) -> str:
    """The checksum that belongs to these values, whatever they carry."""
    bare = {key: value for key, value in values.items() if key != SEAL}
    return content_hash(json.loads(json.dumps(bare, allow_nan=False)))  # as a reader finds them


def check_seal(path: Path, values: Mapping[str, Any], do: str) -> dict[str, Any]:
    """The values without their seal. Values that carry none, as people write them, are taken as they are.

    Raises:
        InputError: they were changed since they were sealed; ``do`` says how to change them on purpose.
    """
    seal = values.get(SEAL)
    if seal is not None and seal != seal_of(values):
        raise InputError(
            f"{path}: changed since dfml wrote it (its content is not what its seal stands for)",
            "the file as it was written",
            do,
        )
    return {key: value for key, value in values.items() if key != SEAL}


def _beside(path: Path, kind: str = "tmp") -> Path:
    return path.with_name(f".{path.name}.{kind}{os.getpid()}.tmp")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Force a rename to the disk, where folders can be opened (not on Windows) and the file system knows this."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
