"""A predictor with names for its classes: from a folder of images, to and from its two files."""

import glob
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data import load_image, load_support
from dfml.data.pictures import GROUND, check_ground, is_image
from dfml.errors import InputError
from dfml.learners.base import AbstractLearner, Predictor
from dfml.learners.files import build_encoder, describe_encoder, load_pair, save_pair
from dfml.nn import Encoder, InputSpec

PREDICTOR_SCHEMA = 3
PREDICTOR = "predictor"  # name of its files, before the ending
BATCH = 64  # image files that are read before the first of them is answered


@dataclass(frozen=True)
class Prediction:
    """Answers for some images: the most probable class of each, and the probabilities of all classes."""

    labels: list[str]
    probabilities: Float[Tensor, "n way"]


class TaskClassifier:
    """A predictor with the names of its classes: what a user ships and asks.

    Args:
        predictor: adapted to the task; BatchNorm ``running`` or ``support``, so that an answer does not depend on
            which other images are asked about.
        class_names: in the order of the predictor's outputs.
        shots: images that each class was adapted to, where that is known.

    Raises:
        InputError: ``query_batch`` statistics, or another number of names.
    """

    def __init__(self, predictor: Predictor, class_names: Sequence[str], *, shots: Sequence[int] = ()):
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
        self.shots = tuple(shots)

    def predict(self, images: Tensor) -> Prediction:
        """Labels and probabilities of images [n, channels, height, width] of any size, in [0, 1] or uint8.

        Raises:
            InputError: images of another type, shape or range (`dfml.nn.as_images`); answers that are no numbers.
        """
        probabilities = self.predictor.probabilities(images).cpu()
        if not bool(probabilities.isfinite().all()):
            raise _no_number("answers")
        return Prediction([self.class_names[i] for i in probabilities.argmax(-1).tolist()], probabilities)

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
        """An answer for each image file, in order and as they are read: thousands take the memory of a batch.

        Raises:
            InputError: no files, or ``ground`` is no colour; a file that cannot be read has its error in its answer.
        """
        check_ground(ground)
        waiting = iter(paths)
        if not (batch := list(islice(waiting, BATCH))):
            raise InputError("no images", "at least one image file", "name the files to classify")
        while batch:
            read: list[Tensor | InputError] = [self._load(path, ground) for path in batch]
            images = [image for image in read if isinstance(image, Tensor)]
            rows = iter(self.predictor.probabilities(torch.stack(images)).tolist() if images else [])
            for path, image in zip(batch, read, strict=True):
                if isinstance(image, InputError):
                    yield FileAnswer(Path(path), "", [], image)
                else:
                    row = next(rows)
                    if not all(map(math.isfinite, row)):
                        yield FileAnswer(Path(path), "", [], _no_number(f"{path}: answers"))
                        continue
                    yield FileAnswer(Path(path), self.class_names[row.index(max(row))], row)
            batch = list(islice(waiting, BATCH))

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


def adapt_to_folder(learner: AbstractLearner, support: str | Path, *, ground: str = GROUND) -> TaskClassifier:
    """A classifier for a new task, from a folder with a folder of a few images per class.

    Raises:
        InputError: fewer than two classes, a class without images, an unreadable image.
    """
    images, labels, names = load_support(support, largest_spec(learner.networks), ground=ground)
    return TaskClassifier(learner.adapt(images, labels), names, shots=labels.bincount().tolist())


def save_predictor(predictor: Predictor, folder: str | Path, class_names: Sequence[str]) -> None:
    """Write ``predictor.safetensors`` and ``predictor.json``: everything needed to predict.

    Raises:
        InputError: see `TaskClassifier`; a folder that cannot be written.
    """
    TaskClassifier(predictor, class_names)
    values = {
        "schema": PREDICTOR_SCHEMA,
        "class_names": list(class_names),
        "normalise": predictor.normalise,
        "encoders": [describe_encoder(cast(Encoder, encoder)) for encoder in predictor.encoders],
    }
    tensors = {f"encoders.{name}": value for name, value in predictor.encoders.state_dict().items()}
    tensors |= {"head.weight": predictor.weight, "head.bias": predictor.bias}
    save_pair(Path(folder) / PREDICTOR, values, tensors)


def load_predictor(folder: str | Path) -> TaskClassifier:
    """Read what `save_predictor` wrote; it predicts the same bits.

    Raises:
        InputError: files missing, damaged, of another version, or weights that do not match the description.
    """
    return load_pair(Path(folder) / PREDICTOR, "predictor", _build)


def _build(values: dict[str, Any], tensors: dict[str, Tensor]) -> TaskClassifier:
    if values["schema"] == 2:
        values, tensors = _upgraded(values, tensors)
    if values["schema"] != PREDICTOR_SCHEMA:
        raise ValueError(f"schema {values['schema']}, not {PREDICTOR_SCHEMA}")
    encoders = [build_encoder(description).requires_grad_(False) for description in values["encoders"]]
    for i, encoder in enumerate(encoders):
        prefix = f"encoders.{i}."
        encoder.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    weight = tensors["head.weight"]
    if not encoders or weight.ndim != 2 or weight.shape[1] != sum(encoder.feature_size for encoder in encoders):
        raise ValueError(f"a head of shape {tuple(weight.shape)} on {len(encoders)} networks")
    predictor = Predictor(encoders, weight, tensors["head.bias"], normalise=values["normalise"])
    return TaskClassifier(predictor, values["class_names"])


def _upgraded(values: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A predictor of schema 2, in which the support's statistics stood beside the networks."""
    encoders = []
    for i, old in enumerate(values["encoders"]):
        spec, answers = old["input_spec"], old.get("answers")
        parts = [
            {"kind": n["architecture"], "width": n["width"], "image_size": spec["size"], "channels": spec["channels"]}
            for n in old["networks"]
        ]
        network: dict[str, Any] = parts[0]
        if old.get("side_by_side"):
            pairs = zip(parts, answers["classes"], strict=True)
            network = {"kind": "side_by_side", "classifiers": [{"backbone": n, "classes": len(c)} for n, c in pairs]}
        if answers:
            network = {"kind": "answering", "backbone": network, "heads": not old.get("side_by_side")} | answers
        encoders.append({"network": network, "input_spec": spec})
        if values["norm"] == "support":
            names = [n for n in tensors if n.startswith(f"encoders.{i}.") and n.endswith("running_mean")]
            for layer, name in enumerate(_in_order(names, build_encoder(encoders[-1]), f"encoders.{i}.")):
                tensors[name] = tensors[f"statistics.{i}.{layer}.mean"]
                tensors[name.replace("running_mean", "running_var")] = tensors[f"statistics.{i}.{layer}.variance"]
    return values | {"schema": PREDICTOR_SCHEMA, "encoders": encoders}, tensors


def _in_order(names: Sequence[str], encoder: Encoder, prefix: str) -> list[str]:
    """The names of tensors in the order of the network's layers."""
    order = [prefix + name for name in encoder.state_dict()]
    return sorted(names, key=order.index)
