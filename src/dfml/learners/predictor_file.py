"""A predictor with names for its classes: from a folder of images, to and from its two files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data import load_image, load_support
from dfml.errors import InputError
from dfml.learners.base import AbstractLearner, Predictor
from dfml.learners.files import build_encoder, describe_encoder, load_pair, save_pair
from dfml.nn import Encoder

PREDICTOR_SCHEMA = 3
PREDICTOR = "predictor"  # name of its files, before the ending
BATCH = 64  # images at once; with running or support statistics an answer does not depend on its batch


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

    Raises:
        InputError: ``query_batch`` statistics, another number of names, or networks for different images.
    """

    def __init__(self, predictor: Predictor, class_names: Sequence[str]):
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
        specs = [cast(Encoder, encoder).spec for encoder in predictor.encoders]
        if len({(spec.channels, spec.size) for spec in specs}) != 1:
            raise InputError("networks for images of different sizes", "one size", "use networks of one input size")
        self.predictor, self.class_names, self.spec = predictor, tuple(class_names), specs[0]

    def predict(self, images: Float[Tensor, "n c h w"]) -> Prediction:
        """Labels and probabilities of images in [0, 1], resized where needed."""
        batches = [self.predictor.probabilities(self.spec.fit(batch)) for batch in images.split(BATCH)]
        probabilities = torch.cat(batches).cpu()
        return Prediction([self.class_names[i] for i in probabilities.argmax(-1).tolist()], probabilities)

    def predict_files(self, paths: Sequence[str | Path]) -> Prediction:
        """Labels and probabilities of image files.

        Raises:
            InputError: no files, or one that is not a readable image.
        """
        if not paths:
            raise InputError("no images", "at least one image file", "name the files to classify")
        return self.predict(torch.stack([load_image(path, self.spec) for path in paths]))


def adapt_to_folder(learner: AbstractLearner, support: str | Path) -> TaskClassifier:
    """A classifier for a new task, from a folder with a folder of a few images per class.

    Raises:
        InputError: fewer than two classes, a class without images, an unreadable image.
    """
    images, labels, names = load_support(support, learner.networks[0].spec)
    return TaskClassifier(learner.adapt(images, labels), names)


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
