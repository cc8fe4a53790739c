"""One writer of a folder at a time, and who it is."""

import getpass
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
Facts = dict[str, Any]


@contextmanager
def only_writer(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process writes the folder, which is made where it is missing.

    The lock is the operating system's, so that it ends with its process, however that ends; the file says whose it is.
    Where the file system has no locks, what the file says is all: a process of this machine that is gone holds nothing.

    Args:
        folder: to write.
        what: is done with it, for the message: ``trained``, ``built``.

    Raises:
        InputError: another process writes it, which is named; or the folder cannot be written.
    """
    new = not folder.exists()
    handle = _take(folder, what)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()  # before it is free: whoever opened this file meanwhile looks again
        os.close(handle)
        if new:
            with suppress(OSError):
                folder.rmdir()  # only where nothing came of it


def _take(folder: Path, what: str) -> int:
    path = folder / LOCK
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                free, holder = _flock(handle), _facts(handle)
                if free is False or (free is None and not _gone(holder)):
                    raise _refusal(folder, what, holder)
                if _still_there(handle, path):
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, json.dumps(_own_facts(), indent=1).encode(), 0)
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


def _flock(handle: int) -> bool | None:
    """Whether the lock is ours now; None where the file system or the machine has none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _still_there(handle: int, path: Path) -> bool:
    """Whether the locked file is the one at ``path``: the holder before may have removed it in between."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _facts(handle: int) -> Facts:
    """What the file says of its holder; nothing where it says nothing yet."""
    try:
        found = json.loads(os.pread(handle, 65536, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _own_facts() -> Facts:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "?"
    return {
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "host": socket.gethostname(),
        "user": user,
        "command": " ".join(sys.argv)[:200],
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def _gone(holder: Facts) -> bool:
    """Whether the holder was a process of this machine that is no more; another one may have its number by now."""
    if not holder:
        return True
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    return _started(holder["pid"]) != holder.get("started")


def _started(pid: int) -> str | None:
    """When a process of this machine began, in whatever words the machine has for it; None: there is none."""
    if os.name == "nt":
        return "unknown"
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {words[19]}"
    except (OSError, IndexError):
        asked = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _refusal(folder: Path, what: str, holder: Facts) -> InputError:
    who = "process {pid} ({command}) of {user} on {host} since {since}".format_map(
        dict.fromkeys(("pid", "command", "user", "host", "since"), "?") | holder
    )
    return InputError(
        f"{folder}: is {what} by {who}",
        "one process at a time",
        f"wait for it or stop it, or choose another --out; if it is long gone, remove {folder / LOCK}",
    )
