"""A learner as two files: what a run is for, usable without the run, its zoo and its method."""

from pathlib import Path
from typing import Any

from torch import Tensor

from dfml.learners import learners
from dfml.learners.base import AbstractLearner
from dfml.learners.files import build_encoder, check_looks, describe_encoder, load_pair, save_pair

LEARNER_SCHEMA = 1
LEARNER = "learner"  # name of its files in a run folder, before the ending


def save_learner(learner: AbstractLearner, path: str | Path, *, about: dict[str, Any] | None = None) -> Path:
    """Write ``<path>.safetensors`` and ``<path>.json``: everything needed to adapt.

    Args:
        learner: any of `dfml.learners.learners`.
        path: without ending, or the path of either file.
        about: plain values that say where it comes from.

    Returns:
        The path of the JSON file.

    Raises:
        InputError: the files cannot be written.
    """
    values = {
        "schema": LEARNER_SCHEMA,
        "learner": learner.kind,
        "options": learner.options,
        "encoders": [describe_encoder(encoder) for encoder in learner.networks],
        "about": about or {},
    }
    stem = _stem(path)
    save_pair(stem, values, dict(learner.state_dict()))
    return stem.with_suffix(".json")


def load_learner(path: str | Path) -> AbstractLearner:
    """Read what `save_learner` wrote; it adapts to the same bits.

    Args:
        path: of a run folder, of either file, or without ending.

    Raises:
        InputError: files missing, damaged, of another version, or weights that do not match the description.
    """
    return load_pair(_stem(path), "learner", _build)


def has_learner(path: str | Path) -> bool:
    """Whether there are the files of a learner."""
    stem = _stem(path)
    return stem.with_suffix(".json").is_file() and stem.with_suffix(".safetensors").is_file()


def _stem(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        return path / LEARNER
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _build(values: dict[str, Any], tensors: dict[str, Tensor]) -> AbstractLearner:
    if values["schema"] != LEARNER_SCHEMA:
        raise ValueError(f"schema {values['schema']}, not {LEARNER_SCHEMA}")
    if values["learner"] not in learners():
        raise ValueError(f"learner {values['learner']!r}, not one of {', '.join(learners())}: install what has it")
    encoders = [build_encoder(description) for description in values["encoders"]]
    networks = encoders[0] if len(encoders) == 1 else encoders
    learner = learners()[values["learner"]](networks, **values["options"])
    learner.load_state_dict(tensors)
    for encoder in learner.eval().networks:
        check_looks(encoder)
    return learner
