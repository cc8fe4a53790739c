"""Image files: upright, without transparency, and no larger in memory than what is wanted of them."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from dfml.errors import InputError
from dfml.files import GIB, regular

with suppress(ImportError):  # HEIC, where its plugin is installed
    import pillow_heif

    pillow_heif.register_heif_opener()
Image.init()  # so that every format is known which Pillow and its plugins read
NOT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # that Pillow only recognises, or hands to a program
GROUND = "white"  # what shows where an image is transparent
DEEP = ("I", "F")  # modes that Pillow would clip to 255 silently
LARGEST_PICTURE = GIB // 2  # bytes of a file
MOST_PIXELS = 50_000_000  # that are decoded of a picture; the environment variable DFML_MOST_PIXELS sets another number
PLAIN_MODES = ("L", "LA", "RGB", "RGBA")


def is_image(path: Path) -> bool:
    """Whether a file's ending is of a format that Pillow, with the plugins that it has by now, reads."""
    kind = Image.EXTENSION.get(path.suffix.lower())
    return kind in Image.OPEN and kind not in NOT_PIXELS and path.is_file()


def read_picture(path: Path, channels: int, *, side: int | None = None, ground: str = GROUND) -> UInt8[Tensor, "c h w"]:
    """One image file.

    Args:
        path: any format that Pillow reads, with 8 bits a channel.
        channels: 1 (grey) or 3 (RGB).
        side: pixels that the shorter side will be resized to by the caller. A much larger image is decoded and reduced
            at once, to twice that at least, so that a photograph costs little more than itself.
        ground: the colour behind transparent pixels, as Pillow names colours.

    Raises:
        InputError: not a readable image, one of too many pixels, one of more than 8 bits, or no such colour.
    """
    _check_sums(path, path)
    with _opened(path, path) as picture:
        return _decoded(picture, path, channels, side, ground)


def decode_picture(content: bytes, channels: int, *, side: int, ground: str = GROUND) -> UInt8[Tensor, "c h w"]:
    """The content of an image file; see `read_picture`.

    Raises:
        InputError: see there.
    """
    _check_sums(BytesIO(content), "the image")
    with _opened(BytesIO(content), "the image") as picture:
        return _decoded(picture, "the image", channels, side, ground)


def _decoded(
    picture: Image.Image, name: object, channels: int, side: int | None, ground: str
) -> UInt8[Tensor, "c h w"]:
    if picture.mode.startswith(DEEP):
        raise InputError(f"{name}: more than 8 bits a channel", "8 bits a channel", "convert the image")
    if side is not None:
        picture.draft(picture.mode, (2 * side, 2 * side))
    _check_pixels(name, picture)
    return picture_pixels(picture, channels, side=side, ground=ground)


def picture_pixels(
    picture: Image.Image, channels: int, *, side: int | None = None, ground: str = GROUND
) -> UInt8[Tensor, "c h w"]:
    """A picture's bytes, upright and without transparency; see `read_picture`.

    Raises:
        InputError: more than 8 bits a channel, or no such colour.
    """
    if picture.mode.startswith(DEEP):
        raise InputError(f"a picture of mode {picture.mode}: more than 8 bits", "8 bits a channel", "convert it")
    check_ground(ground)
    array = np.array(_flat(_reduced(picture, side), ground).convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array).reshape(*array.shape[:2], channels).permute(2, 0, 1)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height, from the file's head alone.

    Raises:
        InputError: not a readable image, or one beyond Pillow's limit.
    """
    with _opened(path, path) as picture:
        return picture.size


@contextmanager
def _opened(file: Path | BytesIO, path: object) -> Iterator[Image.Image]:
    """Inside, a file that is missing, and what Pillow cannot read, is said of ``path``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error above its limit stays
            with Image.open(regular(file, LARGEST_PICTURE) if isinstance(file, Path) else file) as picture:
                yield picture
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: {error}",
            f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, Pillow's limit against files that fill the memory",
            "make the image smaller, or raise PIL.Image.MAX_IMAGE_PIXELS where the file is your own",
        ) from error
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", "an image file that is there", "check the path") from error
    except Image.UnidentifiedImageError as error:  # whose text names an object of Python's
        raise InputError(
            f"{path}: not a readable image (of no kind that Pillow knows)", "an image file", "replace or remove it"
        ) from error
    except Exception as error:  # a broken file can make Pillow's decoders raise nearly anything
        raise InputError(
            f"{path}: not a readable image ({error})", "a whole image file", "replace or remove the file"
        ) from error


def _check_sums(file: Path | BytesIO, path: object) -> None:
    """Refuse a PNG whose checksums do not fit: Pillow does not ask for those of the pixels when it decodes them."""
    with _opened(file, path) as picture:
        if picture.format == "PNG":
            picture.verify()


def _check_pixels(path: object, picture: Image.Image) -> None:
    """Refuse, before it is decoded, what would take gigabytes: a file of a few kilobytes can hold any number of pixels.

    Of a JPEG the pixels count that are decoded, which are few where a small picture is wanted.
    """
    given = os.environ.get("DFML_MOST_PIXELS") or str(MOST_PIXELS)
    if not given.isdecimal():
        raise InputError(f"DFML_MOST_PIXELS={given}", "a number of pixels, 50000000 say", "correct it, or unset it")
    most, (width, height) = int(given), picture.size
    if width * height > most:
        raise InputError(
            f"{path}: {width:,} x {height:,} pixels",
            f"at most {most:,} pixels",
            "make the image smaller, or set the environment variable DFML_MOST_PIXELS where the file is your own",
        )


def check_ground(ground: str) -> None:
    """Refuse what is no colour.

    Raises:
        InputError: it says so.
    """
    try:
        ImageColor.getrgb(ground)
    except ValueError as error:
        raise InputError(f"ground {ground!r}", "a colour, as white, black or #rrggbb", "name another") from error


def _reduced(picture: Image.Image, side: int | None) -> Image.Image:
    """Upright, and its middle square by a whole factor smaller where that is four times what is wanted, or more."""
    if picture.mode not in PLAIN_MODES or "transparency" in picture.info:  # a colour that stands for transparency
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    factor = min(picture.size) // (2 * side) if side else 1
    if factor > 1:
        exif, square = picture.getexif(), min(picture.size)
        left, top = ((length - square) // 2 for length in picture.size)
        picture = picture.reduce(factor, (left, top, left + square, top + square))
        picture.info["exif"] = exif.tobytes()
    return ImageOps.exif_transpose(picture)


def _flat(picture: Image.Image, ground: str) -> Image.Image:
    """Without transparency: the colour that a transparent pixel hides must not show."""
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer)
