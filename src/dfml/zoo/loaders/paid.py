"""Answers that were paid for, on disk: asked for once, kept for ever, also when the process is killed.

One file a model, to which whole records are appended: the key of an image, its answer, and a checksum over both. A
record that was cut short at the end, by a kill or a full disk, is cut off before the next is written; one that was
damaged later is not believed. Processes that share the file take turns, so that none asks what another has paid for.
"""

import hashlib
import os
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, UInt8

from dfml.errors import InputError
from dfml.files import writing

MAGIC = b"dfml answers 1\n"
KEY, CHECK = 32, 8  # bytes of a key and a checksum


def key_of(image: UInt8[np.ndarray, "c h w"]) -> bytes:
    """sha256 of an image as it is sent: its shape and its bytes."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


class PaidAnswers:
    """The answers of one model.

    Args:
        path: of the file; made when something is asked.
        identity: sha256 (hex) of what the model is: answers of another are not taken for its own.
        numbers: of an answer.
    """

    def __init__(self, path: Path, identity: str, numbers: int):
        self.path, self.numbers = path, numbers
        self._header = MAGIC + bytes.fromhex(identity) + struct.pack("<I", numbers)
        self._size = KEY + 4 * numbers + CHECK
        self._at: dict[bytes, int] = {}  # key -> where its record begins
        self._read = len(self._header)
        self._file: BinaryIO | None = None
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: bytes) -> bool:
        return key in self._at

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, nobody else asks this model, and all that others have paid for is known.

        Raises:
            InputError: the file cannot be written, or is another model's.
        """
        with self._lock, writing(self.path), self.path.open("a+b", buffering=0) as file, _locked(file):
            self._file = file
            try:
                self._open(file)
                yield
            finally:
                self._file = None

    def _open(self, file: BinaryIO) -> None:
        """Check or write the header, take in new records, cut off a torn one."""
        end = file.seek(0, os.SEEK_END)
        if end < len(self._header):
            file.truncate(0)
            file.write(self._header)
            end, self._at, self._read = len(self._header), {}, len(self._header)
        file.seek(0)
        if file.read(len(self._header)) != self._header:
            raise InputError(
                f"{self.path}: answers of another model, or of other answers than it gives now",
                "answers that belong to this model",
                "move the file away; what is in it would be paid for again",
            )
        if end < self._read:  # somebody replaced the file
            self._at, self._read = {}, len(self._header)
        whole = self._read + (end - self._read) // self._size * self._size
        if whole < end:
            file.truncate(whole)
        file.seek(self._read)
        damaged = 0
        while self._read < whole:
            record = _exactly(file, self._size)
            if record[-CHECK:] == _check(record[:-CHECK]):
                self._at.setdefault(record[:KEY], self._read)
            else:
                damaged += 1
            self._read += self._size
        if damaged:
            told = f"{self.path}: {damaged} answers are damaged, and will be asked for again where they are needed"
            warnings.warn(told, stacklevel=2)

    def add(self, keys: Sequence[bytes], answers: Float[np.ndarray, "n numbers"]) -> None:
        """Keep answers; on the disk when this returns. Only inside of `alone`.

        Raises:
            InputError: the disk refuses; none is kept then.
        """
        assert self._file is not None
        rows = np.ascontiguousarray(answers, "<f4")
        bare = [key + row.tobytes() for key, row in zip(keys, rows, strict=True)]
        content = b"".join(record + _check(record) for record in bare)
        try:
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) or 0 :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._read)
            raise
        for number, key in enumerate(keys):
            self._at[key] = self._read + number * self._size
        self._read += len(content)

    def rows(self, keys: Sequence[bytes]) -> Float[np.ndarray, "n numbers"]:
        """Kept answers. Only inside of `alone`."""
        assert self._file is not None
        found = np.empty((len(keys), self.numbers), "<f4")
        for row, key in zip(found, keys, strict=True):
            self._file.seek(self._at[key] + KEY)
            row[:] = np.frombuffer(_exactly(self._file, 4 * self.numbers), "<f4")
        return found.astype(np.float32)


def _check(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()[:CHECK]


def _exactly(file: BinaryIO, size: int) -> bytes:
    """So many bytes: a raw file may give fewer at once."""
    parts = b""
    while len(parts) < size:
        part = file.read(size - len(parts))
        if not part:
            raise OSError("the file ends early")
        parts += part
    return parts


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Inside, this process alone has the file, where files can be locked; the system frees it when the process dies."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a disk without locks
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
