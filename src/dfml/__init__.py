"""Data-free meta-learning: from a zoo of pre-trained classifiers, without their data, to a few-shot learner.

from dfml import Zoo, train

run = train(Zoo.open("glyphs"), out="run", minutes=2)
classifier = run.adapt("support")  # a folder with a folder of a few images per class
print(classifier.predict_files(["unknown.png"]).labels)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfml.data import DataSplits, ImageSet, load_data, load_images
    from dfml.errors import InputError
    from dfml.harness.adapt import Run
    from dfml.harness.progress import console_progress
    from dfml.harness.resolving import resolve
    from dfml.harness.train import train
    from dfml.learners.predictor_file import TaskClassifier, load_predictor, save_predictor
    from dfml.manifest import make_manifest
    from dfml.score import Score, paired_difference
    from dfml.zoo import Zoo

_HOMES = {
    "DataSplits": "data",
    "ImageSet": "data",
    "InputError": "errors",
    "Run": "harness.adapt",
    "Score": "score",
    "TaskClassifier": "learners.predictor_file",
    "Zoo": "zoo",
    "console_progress": "harness.progress",
    "load_data": "data",
    "load_images": "data",
    "load_predictor": "learners.predictor_file",
    "make_manifest": "manifest",
    "paired_difference": "score",
    "resolve": "harness.resolving",
    "save_predictor": "learners.predictor_file",
    "train": "harness.train",
}
"""The module of each public name; imported at first use, so that ``dfml --help`` need not wait for torch."""

__all__ = [
    "DataSplits",
    "ImageSet",
    "InputError",
    "Run",
    "Score",
    "TaskClassifier",
    "Zoo",
    "console_progress",
    "load_data",
    "load_images",
    "load_predictor",
    "make_manifest",
    "paired_difference",
    "resolve",
    "save_predictor",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dfml' has no attribute {name!r}")
    return getattr(import_module(f"dfml.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
