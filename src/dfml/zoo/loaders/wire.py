"""What travels between a model's server and whoever calls it: images as bytes of `.npy`, answers as JSON.

A request is ``POST /answers``, its body one array of type uint8 and shape [n, channels, height, width], as `numpy.save`
writes it: such a body says its shape before its pixels, so that a server refuses what is too large without reading it,
nothing in it is decoded or run, and every language has a writer of the few lines that it takes. The answer is one of

    {"probabilities": [[0.7, 0.2, 0.1], ...]}                    one row an image, in the order of the classes
    {"classes": [[4, 1], ...], "probabilities": [[0.7, 0.2], ...]}     the largest alone, and the classes they are of
    {"labels": [4, ...]}                                         numbers of classes

``GET /info`` says what the model is (`About`), and how much it was asked. A key travels as ``Authorization: Bearer``.
"""

import json
import math
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from dfml.files import to_json
from dfml.functional.rounding import completed

WIRE_SCHEMA = 1
MEDIA_TYPE = "application/x-npy"
HEADER_BYTES = 4096  # of an array, at most
SLACK = 1e-3  # of sums of probabilities, beside rounding

Told = Literal["probabilities", "labels"]


class Malformed(ValueError):
    """What came is not what was agreed; says in what."""


@dataclass(frozen=True)
class About:
    """What a server says of its model that stays.

    Args:
        id: its name.
        model: what tells it from another of that name, such as the sha256 of its weights; empty where nothing does.
        classes: names in the order of the answers.
        channels: of its images.
        height: of its images in pixels; others are resized by the server.
        width: of its images.
        answers: what it gives.
        top: so many of the largest probabilities alone; None is all.
        decimals: that probabilities are rounded to.
    """

    id: str
    model: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    answers: Told
    top: int | None
    decimals: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": WIRE_SCHEMA} | asdict(self) | {"classes": list(self.classes)}

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return to_json(self.to_dict())

    @staticmethod
    def from_bytes(content: bytes) -> "About":
        """What `to_bytes` wrote, its sha256 checked."""
        return About.from_dict(json.loads(content))

    @staticmethod
    def from_dict(values: Any) -> "About":
        """From what a server said; what else it said is left out.

        Raises:
            Malformed: something is missing or out of bounds.
        """
        if not isinstance(values, dict) or values.get("schema") != WIRE_SCHEMA:
            raise Malformed(f"it does not speak schema {WIRE_SCHEMA} of dfml's servers")
        classes = values.get("classes")
        if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(c, str) for c in classes):
            raise Malformed("it names no two classes")
        for key in ("id", "model"):
            if not isinstance(values.get(key), str):
                raise Malformed(f"its {key} is no text")
        bounds = {"channels": (1, 4), "height": (1, 4096), "width": (1, 4096), "decimals": (0, 17)}
        for key, (low, high) in bounds.items():
            if not _is_whole(values.get(key), low, high):
                raise Malformed(f"its {key} is {values.get(key)!r}, not {low} to {high}")
        top = values.get("top")
        if top is not None and not _is_whole(top, 1, len(classes)):
            raise Malformed(f"its top is {top!r}, of {len(classes)} classes")
        if values.get("answers") not in ("probabilities", "labels"):
            raise Malformed(f"its answers are {values.get('answers')!r}, not probabilities or labels")
        kept = {key: values[key] for key in ("id", "model", "answers", *bounds)}
        return About(classes=tuple(classes), top=top, **kept)


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def packed(images: UInt8[np.ndarray, "n c h w"]) -> bytes:
    """Images as they travel."""
    buffer = BytesIO()
    np.save(buffer, np.ascontiguousarray(images), allow_pickle=False)
    return buffer.getvalue()


def unpacked(content: bytes, *, most: int, side: int) -> UInt8[np.ndarray, "n c h w"]:
    """Images that came; nothing is allocated that the content does not hold.

    Args:
        content: of the request.
        most: images.
        side: pixels.

    Raises:
        Malformed: something else, or more than that.
    """
    file = BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, turned, dtype = read(file, max_header_size=HEADER_BYTES)
    except Exception as error:  # numpy parses the header as Python, and raises whatever that raises
        raise Malformed("it is no array as numpy.save writes it") from error
    if dtype != np.uint8 or turned or len(shape) != 4:
        raise Malformed(f"it is an array of {dtype} and shape {list(shape)}, not of uint8 [n, channels, height, width]")
    if not 1 <= shape[0] <= most or min(shape[2:]) < 1 or max(shape[2:]) > side or shape[1] not in (1, 3):
        raise Malformed(f"shape {list(shape)}: not 1 to {most} images of 1 or 3 channels and {side} pixels at most")
    if len(content) - file.tell() != math.prod(shape):
        raise Malformed(f"{len(content) - file.tell()} bytes of pixels for shape {list(shape)}")
    return np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape)


def largest_request(most: int, side: int) -> int:
    """Bytes that `unpacked` may have to look at."""
    return HEADER_BYTES + most * 3 * side * side


def largest_response(about: About, images: int) -> int:
    """Bytes that answers take at most, generously."""
    return 4096 + images * (64 + 64 * 2 * len(about.classes))


def read_answers(values: Any, about: About, n: int) -> Float[np.ndarray, "n numbers"]:
    """What a server answered about n images: probabilities of all classes, or one column of labels.

    Raises:
        Malformed: something else: another shape, no numbers, or no probabilities.
    """
    if not isinstance(values, dict):
        raise Malformed(f"a JSON {type(values).__name__}, not an object")
    classes = len(about.classes)
    if about.answers == "labels":
        labels = _numbers(values, "labels", (n,))
        _check_classes(labels, classes)
        return labels[:, None].astype(np.float32)
    said = _numbers(values, "probabilities", (n, about.top or classes)).astype(np.float64)
    if not np.isfinite(said).all():
        raise Malformed("probabilities that are NaN or infinite")
    slack = SLACK + said.shape[1] * 0.5 * 10.0**-about.decimals
    sums = said.sum(1)
    if (said < 0).any() or (sums > 1 + slack).any() or (about.top is None and (sums < 1 - slack).any()):
        raise Malformed(f"probabilities from {said.min():g} to {said.max():g} whose sums are {sums.min():g} or more")
    if about.top is not None:
        places = _numbers(values, "classes", said.shape)
        _check_classes(places, classes)
        if any(len(set(row)) < len(row) for row in places.tolist()):
            raise Malformed("a class that is named twice")
        whole = np.zeros((n, classes))
        np.put_along_axis(whole, places.astype(np.int64), said, axis=1)
        said = whole
    return completed(torch.from_numpy(said), decimals=about.decimals).float().numpy()


def _numbers(values: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(values.get(key))
    except (ValueError, OverflowError) as error:
        raise Malformed(f"{key} of no single shape") from error
    if array.dtype.kind not in "iuf" or array.shape != shape:
        raise Malformed(f"{key} of shape {list(array.shape)} and type {array.dtype}, not numbers {list(shape)}")
    return array


def _check_classes(places: np.ndarray, classes: int) -> None:
    if places.dtype.kind == "f" or places.min() < 0 or places.max() >= classes:
        raise Malformed(f"numbers of classes from {places.min()} to {places.max()}, not 0 to {classes - 1}")
