"""Image sets as folders, one folder per class: ``class/image.png``."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from dfml.data.image_set import DataSplits, ImageSet
from dfml.errors import InputError
from dfml.nn.encoder import InputSpec

Image.init()  # so that every format is known which Pillow and its plugins read
NOT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # that Pillow only recognises, or hands to a program
SUFFIXES = frozenset(s for s, kind in Image.EXTENSION.items() if kind in Image.OPEN and kind not in NOT_PIXELS)
WANTED = "a folder per class, each with images (.png, .jpg, or whatever else Pillow reads)"
GROUND = "white"  # what shows where an image is transparent


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Class names and their image files, both sorted; hidden files are skipped.

    Raises:
        InputError: no such folder, no class folders, or a class folder without images (it is named).
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", WANTED, "check the path")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise InputError(f"{folder}: no folders in it", WANTED, "put the images of each class in a folder of its own")
    found = {}
    for path in classes:
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not files:
            raise InputError(f"{path}: a class folder without images", WANTED, "add images or remove the folder")
        found[path.name] = files
    return found


def _read(path: Path, channels: int) -> UInt8[Tensor, "c h w"]:
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            upright = ImageOps.exif_transpose(picture)
            array = np.array(_opaque(upright).convert("L" if channels == 1 else "RGB"))
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: {error}", "an image within Pillow's limit (Image.MAX_IMAGE_PIXELS)", "make the image smaller"
        ) from error
    except Exception as error:  # a broken file can make Pillow's decoders raise nearly anything
        raise InputError(
            f"{path}: not a readable image ({error})", "a whole image file", "replace or remove the file"
        ) from error
    if mode.startswith(("I", "F")):  # Pillow would clip these to 255 silently
        raise InputError(f"{path}: more than 8 bits a channel (mode {mode})", "8 bits a channel", "convert the image")
    return torch.from_numpy(array).reshape(*array.shape[:2], channels).permute(2, 0, 1)


def _opaque(picture: Image.Image) -> Image.Image:
    """Without transparency, on `GROUND`: the colour that a transparent pixel hides must not show."""
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, GROUND), layer)


def _resize(image: UInt8[Tensor, "c h w"], side: int) -> UInt8[Tensor, "c side side"]:
    if image.shape[1:] == (side, side):
        return image
    resized = F.interpolate(image[None].float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return resized[0].clamp(0, 255).round().to(torch.uint8)


def read_folder(folder: str | Path, *, size: int | None = None) -> ImageSet:
    """One image set, RGB, from a folder per class; class names and files are sorted.

    Args:
        folder: holds ``class/image`` files.
        size: height and width to resize to (antialiased); None takes the most common size of the folder, and of a
            size that is not square the shorter side, because networks take squares.

    Raises:
        InputError: no such folder, no classes, a class without images, an unreadable image; it is named.
    """
    if size is not None and size < 1:
        raise InputError(f"size {size} for the images of {folder}", "at least 1 pixel", "change the size")
    folder = Path(folder)
    classes = class_folders(folder)
    images = [_read(path, 3) for files in classes.values() for path in files]
    sizes = Counter((image.shape[1], image.shape[2]) for image in images)
    # The most common size; of equally common ones the larger, so that nothing depends on the order of the files.
    side = size or min(max((count, hw) for hw, count in sizes.items())[1])
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(f) for f in classes.values()]))
    pixels = torch.stack([_resize(image, side) for image in images])
    return ImageSet(str(folder), pixels, labels, tuple(classes))


def load_image(path: str | Path, spec: InputSpec) -> Float[Tensor, "c size size"]:
    """One image as a network wants it: its channels, its size, float32 in [0, 1], not yet normalised.

    Raises:
        InputError: not a readable image, or a number of channels other than 1 and 3.
    """
    if spec.channels not in (1, 3):
        raise InputError(
            f"{path} for a network of {spec.channels} channels", "1 (grey) or 3 (RGB)", "give arrays instead"
        )
    return spec.fit(_read(Path(path), spec.channels)[None].float() / 255)[0].clamp(0, 1)


def load_support(
    folder: str | Path, spec: InputSpec
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
    images = torch.stack([load_image(path, spec) for files in classes.values() for path in files])
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(f) for f in classes.values()]))
    return images, labels, tuple(classes)


def write_folder(splits: DataSplits, out: str | Path) -> list[Path]:
    """Write ``out/train|val|test/class/0000.png``, for people to look at; returns the three folders.

    Raises:
        InputError: ``out`` cannot be written or holds such folders already, or a class name that is no folder name.
    """
    out, written = Path(out), []
    full = [out / split for split in ("train", "val", "test") if (out / split).exists()]
    if full:
        raise InputError(f"{full[0]} is there already", "a folder without train, val or test", "remove or rename it")
    for split in ("train", "val", "test"):
        part: ImageSet = getattr(splits, split)
        for c, name in enumerate(part.class_names):
            if name in ("", ".", "..") or "/" in name or "\0" in name or name.startswith("."):
                raise InputError(
                    f"{part.name}: class name {name!r}", "a name that a folder can have", "rename the class"
                )
            _write_class(out / split / name, part.images[part.members[c]])
        written.append(out / split)
    return written


def _write_class(folder: Path, images: UInt8[Tensor, "n c h w"]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images):
            array = image.permute(1, 2, 0).numpy()
            Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(
                folder / f"{i:04d}.png", compress_level=1
            )
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error})", "a folder to write to", "choose another") from error
