"""Images as people have them, arrays, tensors, pictures, paths or tables of paths, as a network wants them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dfml.data.folders import load_image, to_spec
from dfml.data.pictures import GROUND, picture_pixels
from dfml.errors import InputError
from dfml.nn import InputSpec, as_images

WANTED = (
    "images: an array [n, height, width, channels] or [n, channels, height, width], uint8 or floats in 0..1; "
    "a table [n, side * side] of square grey images; or a list or column of paths, pictures of Pillow or arrays"
)


def images_as_given(given: Any, spec: InputSpec, *, ground: str = GROUND) -> Float[Tensor, "n c size size"]:
    """Images on the canvas of a network, in [0, 1].

    Args:
        given: a tensor or array [n, c, h, w], [n, h, w, c], [n, h, w] or [n, side * side]; or a list, an array of
            objects, a series or a data frame of one column, each entry a path, a picture of Pillow, or an array of
            one image, of any size. Where channels may be first or last, they are last in an array, first in a tensor.
        spec: of the network.
        ground: the colour behind transparent pixels of paths and pictures.

    Raises:
        InputError: none of these, values outside of [0, 1] or 0..255, or an image that cannot be read.
    """
    values = _values(given)
    if isinstance(values, Tensor):
        if len(values) == 0:
            raise InputError(f"0 images (0 sample(s), shape {tuple(values.shape)})", "at least one", "give images")
        return _fitted(values, spec)
    if not values:
        raise InputError("0 images (0 sample(s))", "at least one", "give images")
    return torch.stack([_one(value, spec, ground) for value in values])


def _values(given: Any) -> Tensor | list[Any]:
    """A batch, channels first, or a list of single images."""
    if isinstance(given, Tensor):
        return _channels_first(given, "first")
    if hasattr(given, "columns") and hasattr(given, "iloc"):  # a data frame
        if given.shape[1] == 1:
            return _values(given.iloc[:, 0])
        given = given.to_numpy()
    elif hasattr(given, "to_numpy"):  # a series, of numbers or of objects
        given = given.to_numpy()
    if isinstance(given, str | Path | Image.Image):
        raise InputError(f"one image ({type(given).__name__})", "a list of images", "put it in a list: [image]")
    if isinstance(given, Sequence) and not isinstance(given, bytes):
        return list(given)
    array = np.asarray(given)
    if array.dtype.kind in "OUT" and array.ndim in (1, 2) and array.size == len(array):
        return list(array.reshape(-1))
    return _channels_first(_as_tensor(array), "last")


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "uif":
        raise InputError(f"an array of {array.dtype} of shape {array.shape}", WANTED, "convert it")
    floats = array.astype(np.float32) if array.dtype.kind == "f" else array
    return torch.from_numpy(np.ascontiguousarray(floats))


def _channels_first(images: Tensor, usual: str) -> Tensor:
    shape = tuple(images.shape)
    if len(shape) == 3:
        return images[:, None]
    if len(shape) == 4:
        first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        return images.permute(0, 3, 1, 2) if last and (usual == "last" or not first) else images
    side = round(shape[1] ** 0.5) if len(shape) == 2 else 0
    if side > 1 and side * side == shape[1]:
        return images.reshape(-1, 1, side, side)
    raise InputError(
        f"an array of shape {shape}", WANTED, "reshape your data, as X.reshape(n, height, width, channels)"
    )


def _one(value: Any, spec: InputSpec, ground: str) -> Float[Tensor, "c size size"]:
    if isinstance(value, str | Path):
        return load_image(value, spec, ground=ground)
    if isinstance(value, Image.Image):
        return to_spec(picture_pixels(value, spec.channels, ground=ground), spec)
    array = value if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim not in (2, 3) or (isinstance(array, np.ndarray) and array.dtype.kind not in "uif"):
        raise InputError(f"an entry of type {type(value).__name__}, shape {tuple(array.shape)}", WANTED, "convert it")
    usual = "first" if isinstance(array, Tensor) else "last"
    tensor = array if isinstance(array, Tensor) else _as_tensor(array)
    return _fitted(_channels_first(tensor[None], usual), spec)[0]


def _fitted(images: Tensor, spec: InputSpec) -> Float[Tensor, "n c size size"]:
    return replace(spec, crop=1.0).fit(as_images(images)).clamp(0, 1)
