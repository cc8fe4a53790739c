"""Checkpoints: nested dictionaries and lists of tensors and plain values, as safetensors and JSON.

A checkpoint is a folder that appears by a rename, when everything in it is on the disk; its checksums say whether it
still is what was written.
"""

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfml.errors import InputError
from dfml.files import LARGEST, read_json, regular, write_folder
from dfml.methods.base import AbstractState

CHECKPOINT_SCHEMA = 1
TENSORS, TREE, SEAL = "tensors.safetensors", "tree.json", "seal.json"


class CorruptCheckpoint(Exception):
    """A checkpoint that is incomplete or not what was written."""


def save_tree(tree: Any, folder: Path) -> None:
    """Write ``tree`` as a new folder, atomically; one that stands there is replaced.

    Args:
        tree: nested dict, list and tuple of tensors, numbers, strings, booleans and None. Keys may be numbers.
        folder: appears when everything in it is on the disk.

    Raises:
        TypeError: anything else in the tree.
        InputError: it cannot be written; the older checkpoints stand.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(tree, tensors))

    def write_tensors(path: Path) -> None:
        try:
            save_file(tensors, path)
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error

    def write_seal(path: Path) -> None:
        sums = {name: _sha256(path.with_name(name)) for name in (TENSORS, TREE)}
        path.write_text(json.dumps({"schema": CHECKPOINT_SCHEMA} | sums))

    write_folder(folder, {TENSORS: write_tensors, TREE: lambda path: path.write_text(text), SEAL: write_seal})


def load_tree(folder: Path) -> Any:
    """What `save_tree` wrote: equal values, types and memory formats, on the CPU.

    Raises:
        CorruptCheckpoint: files missing, changed, or of another schema.
    """
    try:
        seal = read_json(folder / SEAL)
        if not isinstance(seal, dict) or seal.get("schema") != CHECKPOINT_SCHEMA:
            raise CorruptCheckpoint(f"{folder}: another schema than {CHECKPOINT_SCHEMA}")
        for name in (TENSORS, TREE):
            if seal.get(name) != _sha256(folder / name):
                raise CorruptCheckpoint(f"{folder / name}: its sha256 is not the one in {SEAL}")
        return _decode(json.loads((folder / TREE).read_text()), load_file(folder / TENSORS))
    except (OSError, ValueError) as error:
        raise CorruptCheckpoint(f"{folder}: {error}") from error


class Checkpoints:
    """The checkpoints of a run, newest kept.

    Args:
        folder: holds one folder a checkpoint.
        keep: how many stay.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def save(self, step: int, tree: Any) -> Path:
        """Write the checkpoint of ``step``, then remove those beyond ``keep``."""
        path = self.path(step)
        save_tree(tree, path)
        for old in self.paths()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def path(self, step: int) -> Path:
        """Where the checkpoint of ``step`` is, or would be."""
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Those after which a checkpoint was kept, sound or not, newest first."""
        return [int(path.name.removeprefix("step-")) for path in self.paths()]

    def paths(self) -> list[Path]:
        """Newest first, sound or not."""
        found = self.folder.glob("step-*") if self.folder.is_dir() else ()
        return sorted((path for path in found if path.name.removeprefix("step-").isdigit()), reverse=True)

    def latest(self) -> Any | None:
        """The newest sound checkpoint's tree, with a warning that names newer ones which are damaged.

        None where there is no checkpoint yet.

        Raises:
            InputError: all are damaged; says of each what is.
        """
        damaged: list[str] = []
        for path in self.paths():
            try:
                tree = load_tree(path)
            except CorruptCheckpoint as error:
                damaged.append(str(error))
                continue
            if damaged:
                told = "\n  ".join(damaged)
                warnings.warn(f"damaged checkpoints are passed over, {path.name} is taken:\n  {told}", stacklevel=2)
            return tree
        if damaged:
            raise InputError(
                f"{self.folder}: no sound checkpoint among {len(damaged)}" + "".join(f"\n  - {d}" for d in damaged),
                "one that is what dfml wrote",
                "copy the run again from where it was made, or train anew with another --out",
            )
        return None


def restore(state: AbstractState, saved: Any, where: Path) -> None:
    """Give a method's state what a checkpoint holds.

    Raises:
        InputError: it does not fit, as after a change of dfml.
    """
    try:
        state.load_state_dict(saved["state"])
        state.step = saved["step"]
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"{where}: its checkpoint does not fit the networks that its configuration makes in this dfml ({what})",
            "a run by this version of dfml, whose networks nobody changed",
            "train anew with another --out; a run by an older dfml goes on in that version, which versions.json names",
        ) from error


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON in which ``{"$": kind, ...}`` stands for what JSON lacks; tensors go to ``tensors`` by number."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # The memory format is kept because it decides which kernels run, so the bits after a resume.
        last = value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"$": "tensor", "name": name, "channels_last": last}
    if isinstance(value, dict):
        if all(isinstance(k, str) and k != "$" for k in value):
            return {k: _encode(v, tensors) for k, v in value.items()}
        return {"$": "dict", "items": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"$": "tuple", "items": [_encode(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_encode(v, tensors) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} in a checkpoint; wanted tensors and plain values")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind == "tensor":
        tensor = tensors[value["name"]]
        return tensor.contiguous(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value["items"]}
    if kind == "tuple":
        return tuple(_decode(v, tensors) for v in value["items"])
    return {k: _decode(v, tensors) for k, v in value.items()}


def _sha256(path: Path) -> str:
    with regular(path, LARGEST).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
