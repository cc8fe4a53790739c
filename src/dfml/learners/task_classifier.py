"""A predictor with names for its classes, and what it says of many image files."""

import glob
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data import load_image
from dfml.data.pictures import GROUND, check_ground, is_image
from dfml.errors import InputError
from dfml.learners.base import Predictor
from dfml.nn import Encoder, InputSpec

BATCH = 64  # image files that are answered at once
READERS = 4  # threads that read them
NONE = "none of these"


@dataclass(frozen=True)
class Prediction:
    """Answers for some images: the most probable class of each, or `NONE`, and the probabilities of all classes."""

    labels: list[str]
    probabilities: Float[Tensor, "n way"]


class TaskClassifier:
    """A predictor with the names of its classes: what a user ships and asks.

    Args:
        predictor: adapted to the task; BatchNorm ``running`` or ``support``, so that an answer does not depend on
            which other images are asked about.
        class_names: in the order of the predictor's outputs.
        shots: images that each class was adapted to, where that is known.
        floor: an image of which no logit reaches it is of none of the classes; None knows no such image.
        about: plain values that say where it comes from.

    Raises:
        InputError: ``query_batch`` statistics, or another number of names.
    """

    def __init__(
        self,
        predictor: Predictor,
        class_names: Sequence[str],
        *,
        shots: Sequence[int] = (),
        floor: float | None = None,
        about: Mapping[str, Any] | None = None,
    ):
        if predictor.transductive:
            raise InputError(
                "a predictor with BatchNorm query_batch, whose answer for an image depends on the other images",
                "norm running or support",
                "adapt the learner again with one of these",
            )
        if len(class_names) != len(predictor.weight) or len(set(class_names)) != len(class_names):
            raise InputError(
                f"class names {list(class_names)} for a predictor with {len(predictor.weight)} outputs",
                "one name for each output, none twice",
                "give the names in the order of the support labels",
            )
        self.predictor, self.class_names = predictor, tuple(class_names)
        self.spec = largest_spec(cast(list[Encoder], list(predictor.encoders)))
        self.shots, self.floor, self.about = tuple(shots), floor, dict(about or {})
        if floor is not None and NONE in class_names:
            raise InputError(f"a class named {NONE!r} beside reject", "another name", "rename the class")

    def predict(self, images: Tensor) -> Prediction:
        """Labels and probabilities of images [n, channels, height, width] of any size, in [0, 1] or uint8.

        Raises:
            InputError: images of another type, shape or range (`dfml.nn.as_images`); answers that are no numbers.
        """
        said = self._said(images)
        if not bool(said.probabilities.isfinite().all()):
            raise _no_number("answers")
        return said

    def _said(self, images: Tensor) -> Prediction:
        logits = self.predictor(images).cpu()
        highest, which = logits.max(-1)
        known = [self.floor is None or value >= self.floor for value in highest.tolist()]
        labels = [self.class_names[i] if sure else NONE for i, sure in zip(which.tolist(), known, strict=True)]
        return Prediction(labels, logits.softmax(-1))

    def predict_files(self, paths: Sequence[str | Path], *, ground: str = GROUND) -> Prediction:
        """Labels and probabilities of image files.

        Raises:
            InputError: no files, or one that is not a readable image.
        """
        answers = list(self.label_files(paths, ground=ground))
        for answer in answers:
            if answer.error is not None:
                raise answer.error
        return Prediction([a.label for a in answers], torch.tensor([a.probabilities for a in answers]))

    def label_files(self, paths: Iterable[str | Path], *, ground: str = GROUND) -> Iterator["FileAnswer"]:
        """An answer for each image file, in order and as they are read: thousands take the memory of two batches.

        Threads read a batch ahead while the network answers.

        Raises:
            InputError: no files, or ``ground`` is no colour; a file that cannot be read has its error in its answer.
        """
        check_ground(ground)
        waiting = iter(paths)
        ahead: deque[tuple[list[str | Path], list[Future[Tensor | InputError]]]] = deque()
        with ThreadPoolExecutor(READERS, "dfml-read") as readers:

            def read() -> bool:
                batch = list(islice(waiting, BATCH))
                ahead.append((batch, [readers.submit(self._load, path, ground) for path in batch]))
                return bool(batch)

            if not read():
                raise InputError("no images", "at least one image file", "name the files to classify")
            try:
                while ahead[0][0]:
                    read()
                    batch, pending = ahead.popleft()
                    yield from self._answers(batch, [future.result() for future in pending])
            finally:  # somebody may stop listening
                readers.shutdown(cancel_futures=True)

    def _answers(self, batch: Sequence[str | Path], read: Sequence[Tensor | InputError]) -> Iterator["FileAnswer"]:
        images = [image for image in read if isinstance(image, Tensor)]
        said = self._said(torch.stack(images)) if images else Prediction([], torch.empty(0, 0))
        answers = iter(zip(said.labels, said.probabilities.tolist(), strict=True))
        for path, image in zip(batch, read, strict=True):
            if isinstance(image, InputError):
                yield FileAnswer(Path(path), "", [], image)
                continue
            label, row = next(answers)
            if all(map(math.isfinite, row)):
                yield FileAnswer(Path(path), label, row)
            else:
                yield FileAnswer(Path(path), "", [], _no_number(f"{path}: answers"))

    def _load(self, path: str | Path, ground: str) -> Tensor | InputError:
        if Path(path).is_dir():
            return _folder_given(Path(path))
        try:
            return load_image(path, self.spec, ground=ground)
        except InputError as error:
            return error


def _no_number(what: str) -> InputError:
    return InputError(
        f"{what} that are NaN or infinite", "a predictor of sound weights", "adapt a learner to the task anew"
    )


def largest_spec(encoders: Sequence[Encoder]) -> InputSpec:
    """Of the images that show enough for each of several networks."""
    return max((encoder.spec for encoder in encoders), key=lambda spec: (spec.channels, spec.size))


@dataclass(frozen=True)
class FileAnswer:
    """What is said of one file: its most probable class and all probabilities, or why it could not be read."""

    path: Path
    label: str
    probabilities: list[float]
    error: InputError | None = None


def image_files(names: Iterable[str | Path]) -> list[Path]:
    """The files behind names: of a folder all images in it and below, of a pattern (``*``, ``?``, ``[``) what fits it.

    A name that gives none stays as it is, so that reading it says what is wrong.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files += _images_below(path) or [path]
        elif not path.exists() and (found := sorted(glob.glob(str(name), recursive=True))):
            met = [_images_below(p) if p.is_dir() else [p] for p in map(Path, found)]
            files += dict.fromkeys(chain.from_iterable(met))  # ``**`` meets folders and what is in them
        else:
            files.append(path)
    return files


def _images_below(folder: Path) -> list[Path]:
    """The images in a folder and below; what is hidden, or in a hidden folder, is left out."""
    found = (p for p in folder.rglob("*") if is_image(p))
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _folder_given(folder: Path) -> InputError:
    """Why a folder is not labelled: nothing is in it, or nobody has asked for what is (`image_files`)."""
    wanted = "images (.png, .jpg, or whatever else Pillow reads) in it or below"
    if _images_below(folder):
        return InputError(f"{folder}: a folder", "image files", "name the files in it")
    return InputError(f"{folder}: a folder without images", wanted, "check the path, or name the files")
