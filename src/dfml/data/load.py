"""One door to all sources of images: a name, a folder or a file."""

from pathlib import Path

from dfml.data.arrays import read_npz
from dfml.data.folders import read_folder
from dfml.data.glyphs import glyphs
from dfml.data.image_set import DataSplits, ImageSet
from dfml.data.splits import given_splits, split_classes
from dfml.errors import InputError

SPLITS = ("train", "val", "test")
WANTED = "glyphs, an .npz file, a folder of class folders, or a folder with train, val and test of either kind"


def load_images(source: str | Path, *, size: int | None = None) -> ImageSet:
    """One image set from an ``.npz`` file or a folder of class folders.

    Args:
        source: the file or folder.
        size: height and width for folders whose images differ in size; None takes the most common size.

    Raises:
        InputError: nothing there, or nothing that can be read; the message names the file.
    """
    path = Path(source)
    if path.is_dir():
        return read_folder(path, size=size)
    if path.suffix == ".npz" or path.is_file():
        return read_npz(path)
    raise InputError(f"{path}: no such file or folder", WANTED, "check the path")


def load_data(source: str | Path, *, seed: int = 0, size: int | None = None) -> DataSplits:
    """Three splits with disjoint classes.

    Args:
        source: ``"glyphs"``, a folder with train, val and test (``.npz`` files or class folders: used as they are),
            or one unsplit ``.npz`` file or folder of class folders (split by class, 64 / 16 / 20 %).
        seed: seed of the split by class, or of the glyphs' samples.
        size: height and width for folders of images; None takes the most common size of train.

    Raises:
        InputError: nothing there, one or two of the three splits, classes in two splits, unreadable files.
    """
    if str(source) == "glyphs" and not Path(source).exists():
        return glyphs(seed)
    folder = Path(source)
    found = {split: path for split in SPLITS if (path := _part(folder, split)) is not None}
    if not found:
        return split_classes(load_images(folder, size=size), seed=seed)
    missing = [split for split in SPLITS if split not in found]
    if missing:
        raise InputError(
            f"{folder}: {', '.join(found)} but no {', '.join(missing)}",
            "train, val and test, each a folder of class folders or an .npz file",
            "add what is missing, or give one set without splits",
        )
    train = load_images(found["train"], size=size)
    rest = [load_images(found[split], size=size or train.images.shape[-1]) for split in ("val", "test")]
    return given_splits(str(folder), train, *rest)


def _part(folder: Path, split: str) -> Path | None:
    """``folder/split`` or ``folder/split.npz``; a folder ``train`` that holds images, not folders, is a class."""
    path = folder / split
    if path.is_dir() and any(p.is_dir() for p in path.iterdir()):
        return path
    file = folder / f"{split}.npz"
    return file if file.exists() else None
