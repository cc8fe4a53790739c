"""A predictor as two files, safetensors and JSON, that need no zoo, no run folder and no pickle."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from dfml.data import load_image
from dfml.errors import InputError
from dfml.learners.base import Predictor
from dfml.nn import (
    AnsweringBackbone,
    Classifier,
    Encoder,
    InputSpec,
    SideBySide,
    answering_side_by_side,
    architecture_of,
    build_backbone,
    networks_of,
    norm_layers,
)
from dfml.nn.norm import Statistics

PREDICTOR_SCHEMA = 2
WEIGHTS, CARD = "predictor.safetensors", "predictor.json"
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
        if predictor.norm == "query_batch":
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


def _tensors(predictor: Predictor) -> dict[str, Tensor]:
    tensors = {f"encoders.{k}": v for k, v in predictor.encoders.state_dict().items()}
    tensors |= {"head.weight": predictor.weight, "head.bias": predictor.bias}
    for i, statistics in enumerate(predictor.statistics):
        for layer, (mean, variance) in statistics.items():
            tensors |= {f"statistics.{i}.{layer}.mean": mean, f"statistics.{i}.{layer}.variance": variance}
    # Clones, because safetensors refuses tensors that share memory.
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}


def save_predictor(predictor: Predictor, folder: str | Path, class_names: Sequence[str]) -> None:
    """Write ``predictor.safetensors`` and ``predictor.json``: everything needed to predict.

    Raises:
        InputError: see `TaskClassifier`; a folder that cannot be written.
    """
    TaskClassifier(predictor, class_names)
    weights = save_tensors(_tensors(predictor))
    encoders = []
    for encoder in predictor.encoders:
        backbone = cast(Encoder, encoder).backbone
        kinds = [architecture_of(network) for network in networks_of(backbone)]
        described: dict[str, Any] = {
            "networks": [{"architecture": name, "width": width} for name, width in kinds],
            "input_spec": cast(Encoder, encoder).spec.to_dict(),
        }
        if isinstance(backbone, AnsweringBackbone):
            described["answers"] = {"classes": backbone.classes, "hidden": backbone.hidden}
            described["side_by_side"] = isinstance(backbone.backbone, SideBySide)
        encoders.append(described)
    card = {
        "schema": PREDICTOR_SCHEMA,
        "class_names": list(class_names),
        "norm": predictor.norm,
        "normalise": predictor.normalise,
        "encoders": encoders,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, contents in ((WEIGHTS, weights), (CARD, json.dumps(card, indent=1).encode())):
            temporary = folder / f".{name}.tmp"
            temporary.write_bytes(contents)
            os.replace(temporary, folder / name)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error})", "a folder to write to", "choose another one"
        ) from error


def load_predictor(folder: str | Path) -> TaskClassifier:
    """Read what `save_predictor` wrote; it predicts the same bits.

    Raises:
        InputError: files missing, damaged, of another version, or weights that do not match the description.
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / CARD).read_text())
        weights = (folder / WEIGHTS).read_bytes()
        if card["schema"] != PREDICTOR_SCHEMA:
            raise ValueError(f"schema {card['schema']}, not {PREDICTOR_SCHEMA}")
        if hashlib.sha256(weights).hexdigest() != card["sha256"]:
            raise ValueError(f"{WEIGHTS} is not the file that {CARD} describes: truncated or changed")
        return _build(card, load_tensors(weights))
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{folder}: not a predictor ({type(error).__name__}: {error})",
            f"a folder with {CARD} and {WEIGHTS} as `dfml adapt` writes it",
            "adapt again, or copy both files together",
        ) from error


def _build(card: dict[str, Any], tensors: dict[str, Tensor]) -> TaskClassifier:
    encoders, statistics = [], []
    for i, values in enumerate(card["encoders"]):
        spec = InputSpec(**values["input_spec"])
        networks = [
            build_backbone(n["architecture"], image_size=spec.size, channels=spec.channels, width=n["width"])
            for n in values["networks"]
        ]
        encoder = Encoder(_joined(networks, values), spec).requires_grad_(False)
        prefix = f"encoders.{i}."
        encoder.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        encoders.append(encoder)
        statistics.append(_statistics(tensors, f"statistics.{i}."))
    _check_parts(card["norm"], encoders, statistics, tensors["head.weight"])
    predictor = Predictor(
        encoders,
        tensors["head.weight"],
        tensors["head.bias"],
        norm=card["norm"],
        statistics=statistics if card["norm"] == "support" else (),
        normalise=card["normalise"],
    )
    return TaskClassifier(predictor, card["class_names"])


def _joined(networks: list[nn.Module], described: dict[str, Any]) -> nn.Module:
    """The backbone that `save_predictor` described."""
    answers = described.get("answers")
    if described.get("side_by_side"):
        pairs = zip(networks, answers["classes"], strict=True)  # type: ignore[index]
        return answering_side_by_side([Classifier(n, len(known)) for n, known in pairs], answers["classes"])  # type: ignore[index]
    (backbone,) = networks
    return AnsweringBackbone(backbone, **answers) if answers else backbone


def _check_parts(norm: str, encoders: list[Encoder], statistics: list[Statistics], weight: Tensor) -> None:
    if norm not in ("running", "support", "query_batch"):
        raise ValueError(f"norm {norm!r}")
    if not encoders or weight.ndim != 2 or weight.shape[1] != sum(encoder.feature_size for encoder in encoders):
        raise ValueError(f"a head of shape {tuple(weight.shape)} on {len(encoders)} networks")
    layers = [list(range(len(norm_layers(encoder)))) for encoder in encoders]
    if norm == "support" and layers != [list(recorded) for recorded in statistics]:
        raise ValueError("the support's BatchNorm statistics are not complete")


def _statistics(tensors: dict[str, Tensor], prefix: str) -> Statistics:
    layers = sorted(int(k.split(".")[2]) for k in tensors if k.startswith(prefix) and k.endswith(".mean"))
    return {layer: (tensors[f"{prefix}{layer}.mean"], tensors[f"{prefix}{layer}.variance"]) for layer in layers}
