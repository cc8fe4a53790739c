"""Image sets as ``.npz`` files: ``images`` uint8 [n, size, size, c], ``labels`` int64 [n], ``class_names`` strings."""

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

from dfml.data.image_set import DataSplits, ImageSet
from dfml.errors import InputError
from dfml.files import LARGEST, regular, write_atomic

LAYOUT = "images uint8 [n, size, size, c] with 1 or 3 channels, labels integers [n], class_names strings"


def whole_array(archive: ZipFile, name: str) -> np.ndarray:
    """An array of an ``.npz`` file, its checksum compared.

    numpy stops reading where the array's head says that it ends, so that a head that was damaged goes unnoticed.

    Raises:
        KeyError: no such array.
        ValueError: not as it was written, or of Python objects; zipfile and zlib raise errors of their own, too.
    """
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"{name} is longer than it says")
    return array


def array_names(archive: ZipFile) -> list[str]:
    """Of an ``.npz`` file."""
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with ZipFile(regular(path, LARGEST)) as file:
            missing = [key for key in ("images", "labels", "class_names") if key not in array_names(file)]
            if missing:
                raise InputError(
                    f"{path}: arrays {', '.join(sorted(array_names(file))) or '(none)'}; no {', '.join(missing)}",
                    LAYOUT,
                    "write it with np.savez_compressed(path, images=..., labels=..., class_names=...)",
                )
            return {key: whole_array(file, key) for key in ("images", "labels", "class_names")}
    except InputError:
        raise
    except Exception as error:  # a broken file can make numpy, zipfile and zlib raise nearly anything
        raise InputError(
            f"{path}: cannot be read ({error})", f"an .npz file with {LAYOUT}", "write it again, without Python objects"
        ) from error


def _check(path: Path, images: np.ndarray, labels: np.ndarray, names: np.ndarray) -> None:
    found = f"images {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}, class_names {names.dtype}"
    wrong = [
        (images.dtype != np.uint8, "convert the images to bytes, 0..255"),
        (images.ndim != 4 or images.shape[-1] not in (1, 3), "put the channels last"),
        (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1], "give one integer label per image"),
        (names.dtype.kind != "U" or names.ndim != 1, "give class_names as a list of strings"),
        (0 in images.shape, "put at least one image in"),
        (images.ndim == 4 and images.shape[1] != images.shape[2], "resize or crop to squares: networks take squares"),
    ]
    for bad, do in wrong:
        if bad:
            raise InputError(f"{path}: {found} {names.shape}", LAYOUT, do)
    if len(set(names.tolist())) != len(names):
        raise InputError(f"{path}: class_names with repeats", "each class name once", "rename or merge classes")
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(
            f"{path}: labels {labels.min()}..{labels.max()}",
            f"0..{len(names) - 1}, an index into class_names",
            "relabel",
        )
    empty = np.setdiff1d(np.arange(len(names)), labels)
    if len(empty):
        raise InputError(
            f"{path}: {len(empty)} of {len(names)} classes without images, {str(names[empty[0]])!r} first",
            "class_names of the classes in this file only",
            "leave out the names that no label points to",
        )


def read_npz(path: str | Path) -> ImageSet:
    """One image set from a file; classes come out sorted by name, images of a class in the file's order.

    Raises:
        InputError: no such file, not an npz, missing arrays, other types or shapes, labels out of range; the
            message names the file.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file", f"an .npz file with {LAYOUT}", "check the path")
    arrays = _read(path)
    images, labels, names = arrays["images"], arrays["labels"], arrays["class_names"]
    _check(path, images, labels, names)
    order = np.argsort(names, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return ImageSet(str(path), pixels, torch.from_numpy(rank[labels]).long(), tuple(names[order].tolist()))


def write_npz(splits: DataSplits, out: str | Path) -> list[Path]:
    """Write ``out/train.npz``, ``val.npz`` and ``test.npz``; returns the paths.

    Raises:
        InputError: ``out`` cannot be written.
    """
    out, written = Path(out), []
    for split in ("train", "val", "test"):
        part: ImageSet = getattr(splits, split)
        np.savez_compressed(
            content := BytesIO(),
            images=part.images.permute(0, 2, 3, 1).numpy(),
            labels=part.labels.numpy().astype(np.int64),
            class_names=np.array(part.class_names),
        )
        write_atomic(out / f"{split}.npz", content.getvalue())
        written.append(out / f"{split}.npz")
    return written
