"""Files that are whole or not there, that say when they were changed, and folders that one process writes at a time."""

import contextlib
import getpass
import glob
import hashlib
import json
import math
import os
import platform
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dfml.errors import InputError

GIB = 2**30
LARGEST_TEXT = GIB // 4  # bytes of a file of JSON, TOML or names; a zoo of 10,000 models has an index of 8 million
LARGEST = 16 * GIB  # of any other file: weights, arrays of images
SEAL = "seal"  # the key of a file's checksum over all its other values


def visible(name: object) -> str:
    """A name, of a file say, on one line: what is no character to be seen is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def printable(text: object) -> str:
    """Text of one or more lines as a terminal may get it: no name in it can move the cursor or set a title."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


def regular(path: Path, largest: int = LARGEST_TEXT) -> Path:
    """The path of a file that is about to be read: what opens a file that a user names asks here first.

    Raises:
        OSError: none there, no regular file (a pipe would be waited for, a device never ends), or a larger one.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise OSError("a folder, no file")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("a pipe, socket or device, no regular file")
    if found.st_size > largest:
        raise OSError(f"{found.st_size:,} bytes; files of this kind are read up to {largest:,}")
    return path


def absence(path: Path) -> str:
    """Why a file is not there, said of its folder."""
    folder = path.parent
    return f"no {path.name} in it" if folder.is_dir() else "a file" if folder.exists() else "no such folder"


def read_json(path: Path) -> Any:
    """The values of a JSON file.

    Raises:
        OSError: see `regular`.
        ValueError: no JSON, no UTF-8, or nested deeper than Python follows.
    """
    return parse_json(regular(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """The values of JSON, which other programs or people wrote.

    Raises:
        ValueError: no JSON, no UTF-8, or nested deeper than Python follows.
    """
    try:
        values = json.loads(text)
        json.dumps(values)  # what is too deep for this would be so when it is hashed or written
        return values
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def without_nan(value: Any) -> Any:
    """Plain values with null for NaN and infinity, which JSON lacks: an interval of a single episode, say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    return [without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value


def to_json(value: Any) -> bytes:
    """A JSON file: indented, UTF-8 (lone surrogates of file names escaped), null for NaN."""
    text = json.dumps(without_nan(value), indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def content_hash(values: Any) -> str:
    """``sha256:`` of plain values, as JSON with sorted keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with a checksum over them: a change by hand is noticed when they are read."""
    bare = {key: value for key, value in values.items() if key != SEAL}
    return bare | {SEAL: content_hash(bare)}


def unsealed(values: Mapping[str, Any], path: Path, do: str) -> dict[str, Any]:
    """The values of a file without their checksum; one that has none is taken as it is (older, or written by hand).

    Raises:
        InputError: they are not what was sealed, or hold NaN, which no file of JSON can.
    """
    bare = {key: value for key, value in values.items() if key != SEAL}
    try:
        found = content_hash(bare)
    except ValueError as error:
        raise InputError(f"{path}: NaN or infinity in it", "numbers that JSON knows, or null", do) from error
    if values.get(SEAL, found) != found:
        raise InputError(
            f"{path}: changed since it was written: its seal does not fit", "the file as dfml wrote it", do
        )
    return bare


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: a reader, or a kill, meets the old file or the whole new one.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_folder(folder: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files as a new folder that appears by a rename, when all of them are on the disk; an old one is replaced.

    Args:
        folder: appears.
        files: name -> what writes it to the path that it is given, one after the other.

    Raises:
        InputError: it cannot be written; nothing is left of it, and an old one stands.
    """
    work, old = (folder.with_name(f".writing-{folder.name}-{os.getpid()}{end}") for end in ("", "-old"))
    with writing(folder):
        for left in folder.parent.glob(f".writing-{glob.escape(folder.name)}-*"):  # of a killed process
            shutil.rmtree(left, ignore_errors=True)
        try:
            work.mkdir(parents=True)
            for name, write in files.items():
                write(work / name)
            for path in (*work.iterdir(), work):
                _sync(path)
            if folder.exists():
                folder.rename(old)
            work.rename(folder)
            _sync(folder.parent)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left unfinished in a folder that nobody else writes."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one line of JSON, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    line = (json.dumps(without_nan(values), allow_nan=False) + "\n").encode()
    with writing(path), path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[file.write(line) or 0 :]
        except OSError:
            file.truncate(before)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, what the disk or the system refuses is said of ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error})",
            "a folder that you may write, on a disk with room",
            "make room or change the permissions, or choose another folder",
        ) from error


def _sync(path: Path) -> None:
    """Force a file or folder to the disk; folders cannot be opened on Windows."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Inside, this process alone writes to the folder.

    The system frees the lock of a process that dies, however it dies, so that none is ever stale on its own machine.
    Where folders cannot be locked (Windows, some network disks), nothing is.

    Args:
        folder: is there.
        what: this process does to it, for messages.

    Raises:
        InputError: another process has it, with who, since when and where.
    """
    path = folder / ".lock"
    while True:
        with writing(path):
            file = path.open("a+", encoding="utf-8")
        free = _take(file)
        if not free or _is_at(file, path):
            break
        file.close()  # of a process that removed its lock after this file was opened
    with file:
        if not free:
            file.seek(0)
            raise InputError(
                f"{folder}: {file.read().strip() or 'another process'} is at work in it",
                "a folder that no other process writes to",
                "wait for that process or stop it; it may be on another machine",
            )
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with writing(path):
            file.truncate(0)
            file.write(f"{_user()}, process {os.getpid()} on {platform.node()}, {what} since {since}\n")
            file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _take(file: Any) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return True


def _user() -> str:
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
