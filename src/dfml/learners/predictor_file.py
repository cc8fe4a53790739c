"""A predictor with names for its classes: from a folder of images, to and from its two files."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float, Int
from torch import Tensor

from dfml.data import load_support
from dfml.data.pictures import GROUND
from dfml.learners.base import AbstractLearner, Predictor
from dfml.learners.confidence import adapt_surely
from dfml.learners.files import build_encoder, check_looks, describe_encoder, load_pair, save_pair
from dfml.learners.task_classifier import TaskClassifier, largest_spec
from dfml.nn import Encoder

PREDICTOR_SCHEMA = 3
WITH_FLOOR = 4  # of predictors that may say none of these, which earlier versions must not read as if they could not
PREDICTOR = "predictor"  # name of its files, before the ending


def adapt_to_folder(
    learner: AbstractLearner,
    support: str | Path,
    *,
    calibrate: bool = True,
    reject: float | None = None,
    ground: str = GROUND,
) -> TaskClassifier:
    """A classifier for a new task, from a folder with a folder of a few images per class.

    Args:
        learner: stays as it is.
        support: the folder.
        calibrate: see `dfml.learners.confidence.adapt_surely`, also for what ``about`` says of ``confidence``.
        reject: likewise.
        ground: the colour behind transparent pixels.

    Raises:
        InputError: fewer than two classes, a class without images, an unreadable image; see `adapt_surely`.
    """
    images, labels, names = load_support(support, largest_spec(learner.networks), ground=ground)
    return adapt_to_images(learner, images, labels, names, calibrate=calibrate, reject=reject)


def adapt_to_images(
    learner: AbstractLearner,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    names: Sequence[str],
    *,
    calibrate: bool = True,
    reject: float | None = None,
) -> TaskClassifier:
    """A classifier for a new task, from images [n, channels, height, width] in [0, 1]; see `adapt_to_folder`.

    Args:
        learner: stays as it is.
        images: the support.
        labels: of the images, 0..way-1.
        names: of the classes.
        calibrate: as there.
        reject: as there.

    Raises:
        InputError: see `adapt_surely` and `TaskClassifier`.
    """
    sure = adapt_surely(learner, images, labels, calibrate=calibrate, reject=reject)
    shots = labels.bincount().tolist()
    about = {"made_by": learner.describe(), "shots": shots, "reject": reject, "confidence": asdict(sure.confidence)}
    return TaskClassifier(sure.predictor, names, shots=shots, floor=sure.floor, about=about)


def save_predictor(predictor: Predictor | TaskClassifier, folder: str | Path, class_names: Sequence[str] = ()) -> None:
    """Write ``predictor.safetensors`` and ``predictor.json``: everything needed to predict.

    Args:
        predictor: with names, or without.
        folder: is made where there is none.
        class_names: of a predictor without, in the order of its outputs.

    Raises:
        InputError: see `TaskClassifier`; a folder that cannot be written.
    """
    classifier = predictor if isinstance(predictor, TaskClassifier) else TaskClassifier(predictor, class_names)
    predictor = classifier.predictor
    values: dict[str, Any] = {
        "schema": PREDICTOR_SCHEMA if classifier.floor is None else WITH_FLOOR,
        "class_names": list(classifier.class_names),
        "normalise": predictor.normalise,
        "encoders": [describe_encoder(cast(Encoder, encoder)) for encoder in predictor.encoders],
    }
    values |= {} if classifier.floor is None else {"floor": classifier.floor}
    values |= {"about": classifier.about} if classifier.about else {}
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
    if values["schema"] not in (PREDICTOR_SCHEMA, WITH_FLOOR):
        raise ValueError(f"schema {values['schema']}, not {PREDICTOR_SCHEMA}")
    encoders = [build_encoder(description).requires_grad_(False) for description in values["encoders"]]
    for i, encoder in enumerate(encoders):
        prefix = f"encoders.{i}."
        encoder.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        check_looks(encoder)
    weight = tensors["head.weight"]
    if not encoders or weight.ndim != 2 or weight.shape[1] != sum(encoder.feature_size for encoder in encoders):
        raise ValueError(f"a head of shape {tuple(weight.shape)} on {len(encoders)} networks")
    predictor = Predictor(encoders, weight, tensors["head.bias"], normalise=values["normalise"])
    about = values.get("about", {})
    shots = about.get("shots", ())
    return TaskClassifier(predictor, values["class_names"], shots=shots, floor=values.get("floor"), about=about)


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
