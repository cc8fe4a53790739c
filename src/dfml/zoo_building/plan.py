"""What the models of a zoo will be, and the training of one of them: pure, so that any process can do it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfml.data.image_set import DataSplits, ImageSet
from dfml.errors import InputError
from dfml.files import content_hash
from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.zoo.card import ModelCard
from dfml.zoo.files import halve, pack
from dfml.zoo_building.train_one import Optimiser, held_out_accuracy, train_classifier
from dfml.zoo_building.train_together import train_together

HELD_OUT = 0.2
RECIPE_SCHEMA = 1


@dataclass(frozen=True)
class TrainingRecipe:
    """How a teacher is trained; see `train_classifier`."""

    epochs: int = 18
    batch_size: int = 64
    lr: float = 0.01
    optimiser: Optimiser = "adam"
    flips: bool = True
    shift: int = 2


TRAINING = {
    "conv4": TrainingRecipe(),
    "conv4_growing": TrainingRecipe(),
    "resnet10": TrainingRecipe(epochs=12, batch_size=128, lr=0.1, optimiser="sgd"),
    "resnet12": TrainingRecipe(epochs=12, batch_size=128, lr=0.1, optimiser="sgd"),
    "resnet18": TrainingRecipe(epochs=12, batch_size=128, lr=0.1, optimiser="sgd"),
}


@dataclass(frozen=True)
class TeacherTask:
    """Everything that one process needs to train one teacher; arrays, because they pickle plainly."""

    card: ModelCard
    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    training: TrainingRecipe
    rng: Rng
    device: str = "cpu"


def train_teachers(tasks: Sequence[TeacherTask]) -> list[tuple[ModelCard, bytes]]:
    """Train, round to float16, and measure the rounded networks on the held-out images.

    Several teachers, which have one device and one way of training, are trained at once where they have as many images.

    Returns:
        Of each the finished card and the weight file's bytes.
    """
    first, networks = tasks[0], [_new_network(task) for task in tasks]
    spec, recipe, rngs = first.card.input_spec, asdict(first.training), [task.rng for task in tasks]
    data = [tuple(map(torch.from_numpy, (task.images, task.labels, task.held_out))) for task in tasks]
    known = [(images[~held_out], labels[~held_out]) for images, labels, held_out in data]
    if len(tasks) > 1 and len({len(labels) for _, labels in known}) == 1:
        images, labels = (torch.stack(each).to(first.device) for each in zip(*known, strict=True))
        train_together(images, labels, networks, spec, rngs=rngs, **recipe)
    else:
        for (images, labels), network, rng in zip(known, networks, rngs, strict=True):
            train_classifier(images, labels, network, spec, rng=rng, **recipe)
    return [_finish(task.card, network, *each) for task, network, each in zip(tasks, networks, data, strict=True)]


def _new_network(task: TeacherTask) -> Classifier:
    card, spec = task.card, task.card.input_spec
    with task.rng.seeded("weights"):
        width = card.options["width"]
        backbone = build_backbone(card.architecture, image_size=spec.size, channels=spec.channels, width=width)
        return Classifier(backbone, len(card.class_names)).to(task.device)


def _finish(
    card: ModelCard, network: Classifier, images: Tensor, labels: Tensor, held_out: Tensor
) -> tuple[ModelCard, bytes]:
    network.load_state_dict(halve(network))
    accuracy = held_out_accuracy(images[held_out], labels[held_out], network, card.input_spec)
    return pack(replace(card, accuracy=accuracy), network.cpu())


@dataclass(frozen=True)
class ZooPlan:
    """What every model of a zoo will be, before any is trained.

    Args:
        name: of the data set; the first half of class ids.
        images: the meta-train split.
        spec: of every model.
        width: channels of the first block.
        training: of every model.
        recipe: everything that decides the zoo, as plain values.
    """

    name: str
    images: ImageSet
    spec: InputSpec
    width: int
    training: TrainingRecipe
    recipe: dict[str, Any]

    @staticmethod
    def make(
        data: DataSplits,
        architecture: str,
        models: int,
        way: int,
        seed: int,
        width: int | None,
        training: TrainingRecipe | None,
    ) -> "ZooPlan":
        """The plan for these arguments of `build_zoo`, checked.

        Raises:
            InputError: classes or images do not suffice; an architecture that is unknown or cannot take the images.
        """
        train, name = data.train, Path(data.name).stem  # a path stays on the machine where it means something
        _check_counts(train, models, way)
        spec = input_spec(train)
        backbone = build_backbone(architecture, image_size=spec.size, channels=spec.channels, width=width)
        width = int(next(backbone.parameters()).shape[0])
        training = training or TRAINING[architecture]
        recipe = {
            "schema": RECIPE_SCHEMA,
            "data": name,
            "data_hash": train.hash,
            "architecture": architecture,
            "width": width,
            "models": models,
            "way": way,
            "seed": seed,
            "held_out": HELD_OUT,
            "training": asdict(training),
        }
        return ZooPlan(name, train, spec, width, training, recipe)

    def rng(self, i: int) -> Rng:
        """Of model ``i``."""
        return Rng(self.recipe["seed"]).at("teacher", i)

    def classes(self, i: int) -> list[int]:
        """Of model ``i``, in the order of its outputs."""
        drawn = torch.randperm(len(self.images.class_names), generator=self.rng(i).generator("classes"))
        return drawn[: self.recipe["way"]].tolist()

    def card(self, i: int) -> ModelCard:
        """The card of model ``i`` before its training."""
        names = tuple(self.images.class_names[c] for c in self.classes(i))
        ids = tuple(f"{self.name}/{name}" for name in names)
        model = f"{self.recipe['architecture']}-{i:0{len(str(self.recipe['models'] - 1))}d}"
        provenance = {"built_by": "dfml zoo build", "recipe": content_hash(self.recipe), "model": i}
        source, options = f"dfml:{self.recipe['architecture']}", {"width": self.width}
        return ModelCard(model, source, names, ids, self.spec, "", options, provenance=provenance)

    def task(self, i: int, device: str = "cpu") -> TeacherTask:
        """The training of model ``i`` on a device: of each class the last images are held out."""
        chosen = self.images.classes(self.classes(i))
        held_out = torch.zeros(len(chosen), dtype=torch.bool)
        for members in chosen.members.values():
            held_out[members[int(len(members) * (1 - HELD_OUT)) :]] = True
        arrays = chosen.images.numpy(), chosen.labels.numpy(), held_out.numpy()
        return TeacherTask(self.card(i), *arrays, self.training, self.rng(i), device)


def input_spec(images: ImageSet) -> InputSpec:
    """Size, channels, mean and standard deviation of a set, from exact sums, to four decimals.

    Raises:
        InputError: images that are not square.
    """
    _, channels, height, width = images.images.shape
    if height != width:
        raise InputError(f"{images.name}: images of {height} x {width} pixels", "square images", "crop or resize them")
    total, squares = torch.zeros(channels, dtype=torch.int64), torch.zeros(channels, dtype=torch.int64)
    for part in images.images.split(1000):
        total += part.sum((0, 2, 3), dtype=torch.int64)
        squares += part.int().square().sum((0, 2, 3), dtype=torch.int64)
    pixels = images.images.numel() / channels
    mean = total.double() / pixels / 255
    std = (squares.double() / pixels / 255**2 - mean**2).clamp(min=1e-4).sqrt()
    return InputSpec(
        channels, height, tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())
    )


def _check_counts(train: ImageSet, models: int, way: int) -> None:
    classes = len(train.class_names)
    if models < 1 or not 2 <= way <= classes:
        raise InputError(
            f"{models} models of {way} classes from {classes} meta-train classes",
            "at least one model, and a way between 2 and the number of classes",
            "change --models or --way",
        )
    fewest = min(train.members, key=lambda c: len(train.members[c]))
    if len(train.members[fewest]) < 5:
        raise InputError(
            f"class {train.class_names[fewest]!r} of {train.name} with {len(train.members[fewest])} images",
            "at least 5 images a class: 4 to train on and 1 held out",
            "add images or leave the class out",
        )
