"""Image sets as folders, one folder per class: ``class/image.png``."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median_low

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from dfml.data.image_set import DataSplits, ImageSet
from dfml.data.pictures import GROUND, is_image, picture_size, read_picture
from dfml.errors import InputError
from dfml.files import visible
from dfml.files import write_folder as whole_folder
from dfml.nn.encoder import InputSpec, resized

WANTED = "a folder per class, each with images (.png, .jpg, or whatever else Pillow reads)"
LARGEST = 96  # pixels of a side, where nobody says how large images are to be
NAMED = 5  # files that a message names
LONGEST = 60  # characters of a name in it


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Class names and their image files, both sorted. Hidden files are skipped; what else is left out is warned of.

    Raises:
        InputError: no such folder, no class folders, or class folders without images (they are named).
    """
    if not folder.is_dir():
        what = "a file, no folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}", WANTED, "check the path")
    classes = subfolders(folder)
    if not classes:
        raise InputError(f"{folder}: no folders in it", WANTED, "put the images of each class in a folder of its own")
    found: dict[str, list[Path]] = {}
    left_out = sorted(path for path in folder.iterdir() if path.is_file() and not _hidden(path))
    for path in classes:
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not any(map(_hidden, _below(p, path))))
        found[path.name] = [p for p in inside if p.parent == path and is_image(p)]
        left_out += [p for p in inside if p not in set(found[path.name])]
    count = f"{len(left_out)} file{'s' if len(left_out) > 1 else ''}"
    said = f"{count} left out (no images, or not in a class folder itself): {_named(left_out, folder)}"
    if empty := [path for path in classes if not found[path.name]]:
        others = f"; so are {_named(empty[1:], folder)}" if empty[1:] else ""
        raise InputError(
            f"{empty[0]}: a class folder without images{others}" + (f" ({said})" if left_out else ""),
            WANTED,
            "put images into the folder itself, or remove it",
        )
    if left_out:
        warnings.warn(f"{visible(folder)}: {said}", stacklevel=2)
    return found


def _named(paths: Sequence[Path], folder: Path) -> str:
    """The first of the paths, seen from ``folder``, and how many more there are."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(_short(visible(path.relative_to(folder).as_posix())) for path in paths[:NAMED]) + more


def _short(name: str) -> str:
    """A name that stands out in a list: quoted where it has gaps, without its middle where it is long."""
    if len(name) > LONGEST:
        name = f"{name[: LONGEST // 2]}...{name[-LONGEST // 2 :]}"
    return f"'{name}'" if set(name) & {" ", ","} else name


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones, which editors leave, are none."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _below(path: Path, folder: Path) -> list[Path]:
    """The path and its folders, up to ``folder``."""
    return [path, *(p for p in path.parents if folder in p.parents)]


def usual_side(sizes: Sequence[tuple[int, int]]) -> int:
    """The side for images of these widths and heights: the median of the shorter sides, `LARGEST` at most.

    One strip, two thumbnails or a photograph among them do not change it.
    """
    return min(LARGEST, median_low(min(size) for size in sizes))


def read_folder(folder: str | Path, *, size: int | None = None, ground: str = GROUND) -> ImageSet:
    """One image set, RGB, from a folder per class; class names and files are sorted.

    Images are cropped to their middle square and resized, antialiased: networks take squares.

    Args:
        folder: holds ``class/image`` files.
        size: height and width; None is `usual_side`.
        ground: the colour behind transparent pixels.

    Raises:
        InputError: no such folder, no classes, a class without images, an unreadable image; it is named.
    """
    if size is not None and size < 1:
        raise InputError(f"size {size} for the images of {folder}", "at least 1 pixel", "change the size")
    folder = Path(folder)
    classes = class_folders(folder)
    paths = [path for files in classes.values() for path in files]
    side = size or usual_side([picture_size(path) for path in paths])
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(f) for f in classes.values()]))
    pixels = torch.stack([_bytes(read_picture(path, 3, side=side, ground=ground), side) for path in paths])
    return ImageSet(str(folder), pixels, labels, tuple(classes))


def _bytes(image: UInt8[Tensor, "c h w"], side: int) -> UInt8[Tensor, "c side side"]:
    if image.shape[1:] == (side, side):
        return image
    return resized(image[None].float(), side)[0].clamp(0, 255).round().to(torch.uint8)


def load_image(path: str | Path, spec: InputSpec, *, ground: str = GROUND) -> Float[Tensor, "c size size"]:
    """One image as a network wants it: its channels, its size, float32 in [0, 1], not yet normalised.

    Raises:
        InputError: not a readable image, or a number of channels other than 1 and 3.
    """
    if spec.channels not in (1, 3):
        raise InputError(
            f"{path} for a network of {spec.channels} channels", "1 (grey) or 3 (RGB)", "give arrays instead"
        )
    return to_spec(read_picture(Path(path), spec.channels, side=max(spec.shape[1:]), ground=ground), spec)


def to_spec(pixels: UInt8[Tensor, "channels h w"], spec: InputSpec) -> Float[Tensor, "c size size"]:
    """One image as `load_image` gives it."""
    return replace(spec, crop=1.0).fit(pixels[None])[0].clamp(0, 1)


def load_support(
    folder: str | Path, spec: InputSpec, *, ground: str = GROUND
) -> tuple[Float[Tensor, "n c size size"], Int[Tensor, " n"], tuple[str, ...]]:
    """A support set: a folder per class with a few images in it.

    Returns:
        The images in [0, 1], their labels 0..way-1, and the class names, sorted.

    Raises:
        InputError: fewer than 2 classes, a class without images, an unreadable image.
    """
    folder = Path(folder)
    classes = class_folders(folder)
    if len(classes) < 2:
        raise InputError(f"{folder}: one class, {next(iter(classes))}", "at least 2 class folders", "add a class")
    images = torch.stack([load_image(path, spec, ground=ground) for files in classes.values() for path in files])
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(f) for f in classes.values()]))
    return images, labels, tuple(classes)


def write_folder(splits: DataSplits, out: str | Path) -> list[Path]:
    """Write ``out/train|val|test/class/0000.png``, for people to look at; returns the three folders.

    Each is there as a whole or not at all.

    Raises:
        InputError: ``out`` cannot be written or holds such folders already, or a class name that is no folder name.
    """
    out, written = Path(out), []
    full = [out / split for split in ("train", "val", "test") if (out / split).exists()]
    if full:
        raise InputError(f"{full[0]} is there already", "a folder without train, val or test", "remove or rename it")
    for split in ("train", "val", "test"):
        part: ImageSet = getattr(splits, split)
        for name in part.class_names:
            check_folder_name(name, part.name)
        classes = {
            name: partial(_write_class, images=part.images[part.members[c]]) for c, name in enumerate(part.class_names)
        }
        whole_folder(out / split, classes)
        written.append(out / split)
    return written


def check_folder_name(name: str, of: str) -> None:
    """Refuse a class whose name would leave its folder, or hide in it.

    Raises:
        InputError: it says of what the class is.
    """
    if name in ("", ".", "..") or set(name) & {"/", "\\", "\0"} or name.startswith("."):
        raise InputError(f"{of}: class name {name!r}", "a name that a folder can have", "rename the class")


def _write_class(folder: Path, images: UInt8[Tensor, "n c h w"]) -> None:
    folder.mkdir()
    for i, image in enumerate(images):
        array = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        picture.save(folder / f"{i:04d}.png", compress_level=1)
