"""One door to all sources of images: a name, a folder or a file."""

from collections.abc import Collection
from pathlib import Path

from dfml.data.arrays import read_npz
from dfml.data.folders import read_folder, subfolders
from dfml.data.glyphs import glyphs
from dfml.data.image_set import DataSplits, ImageSet
from dfml.data.pictures import GROUND
from dfml.data.splits import given_splits, split_classes
from dfml.errors import InputError

SPLITS = ("train", "val", "test")
WANTED = "glyphs, an .npz file, a folder of class folders, or a folder with train, val and test of either kind"


def load_images(source: str | Path, *, size: int | None = None, ground: str = GROUND) -> ImageSet:
    """One image set from an ``.npz`` file or a folder of class folders.

    Args:
        source: the file or folder.
        size: height and width for folders of images; None is `dfml.data.folders.usual_side`.
        ground: the colour behind transparent pixels of image files.

    Raises:
        InputError: nothing there, or nothing that can be read; the message names the file.
    """
    path = Path(source)
    if path.is_dir():
        return read_folder(path, size=size, ground=ground)
    if path.suffix == ".npz" or path.is_file():
        return read_npz(path)
    raise InputError(f"{path}: no such file or folder", WANTED, "check the path")


def load_data(source: str | Path, *, seed: int = 0, size: int | None = None, ground: str = GROUND) -> DataSplits:
    """Three splits with disjoint classes.

    Args:
        source: ``"glyphs"``, a folder with train, val and test (``.npz`` files or class folders: used as they are),
            or one unsplit ``.npz`` file or folder of class folders (split by class, 64 / 16 / 20 %).
        seed: seed of the split by class, or of the glyphs' samples.
        size: height and width for folders of images; None is `dfml.data.folders.usual_side` of train.
        ground: the colour behind transparent pixels of image files.

    Raises:
        InputError: nothing there, one or two of the three splits, classes in two splits, unreadable files.
    """
    if str(source) == "glyphs" and not Path(source).exists():
        return glyphs(seed)
    folder = Path(source)
    found = {split: path for split in SPLITS if (path := _part(folder, split)) is not None}
    if not found:
        return split_classes(load_images(folder, size=size, ground=ground), seed=seed)
    missing = [split for split in SPLITS if split not in found]
    if missing:
        raise InputError(
            f"{folder}: {', '.join(found)} but no {', '.join(missing)}",
            "train, val and test, each a folder of class folders or an .npz file",
            "add what is missing, or give one set without splits",
        )
    train = load_images(found["train"], size=size, ground=ground)
    side = size or train.images.shape[-1]
    rest = [load_images(found[split], size=side, ground=ground) for split in ("val", "test")]
    return given_splits(str(folder), train, *rest)


def load_split(
    source: str | Path,
    split: str,
    *,
    known: Collection[str] = (),
    seed: int = 0,
    size: int | None = None,
    ground: str = GROUND,
) -> ImageSet:
    """Images to judge on: one part of split data, or all classes of data that is not split.

    Args:
        source: see `load_data`.
        split: ``train``, ``val`` or ``test``.
        known: class names that were learned from. Unsplit data that holds some of them was divided by
            `load_data`, to learn from one part of it, and is divided in the same way here.
        seed: see `load_data`.
        size: see `load_data`.
        ground: see `load_data`.

    Raises:
        InputError: see `load_data`.
    """
    named = str(source) == "glyphs" and not Path(source).exists()
    if named or any(_part(Path(source), part) for part in SPLITS):
        return getattr(load_data(source, seed=seed, size=size, ground=ground), split)
    images = load_images(source, size=size, ground=ground)
    return getattr(split_classes(images, seed=seed), split) if set(known) & set(images.class_names) else images


def _part(folder: Path, split: str) -> Path | None:
    """``folder/split`` or ``folder/split.npz``; a folder ``train`` that holds images, not folders, is a class."""
    path = folder / split
    if path.is_dir() and subfolders(path):
        return path
    file = folder / f"{split}.npz"
    return file if file.exists() else None
