"""A zoo of two untrained networks, for tests of what reads zoos."""

from pathlib import Path

import torch

from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.zoo import ModelCard, Zoo, write_index

SPEC = InputSpec(size=16)


def network(seed: int, classes: int = 3, size: int = 16) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Classifier(build_backbone("conv4", image_size=size, width=4), classes).eval()


def card(model: str, names: tuple[str, ...], **changes) -> ModelCard:
    values = {"id": model, "source": "dfml:conv4", "class_names": names, "sha256": "", "input_spec": SPEC}
    values |= {"class_ids": tuple(f"toys/{name}" for name in names), "accuracy": {"mean": 50.0, "ci95": 9.0, "n": 100}}
    return ModelCard(**values | {"options": {"width": 4}} | changes)


def write_tiny_zoo(folder: Path) -> Path:
    """Two models, which share the class "bear"."""
    Zoo.write_model(folder, card("one", ("bear", "ant", "cow")), network(1))
    Zoo.write_model(folder, card("two", ("dog", "eel", "bear")), network(2))
    write_index(folder, name="toys", shared_classes=True, recipe={"seed": 0})
    return folder
