"""A small zoo that is built from noise with a colour a class, and what it is built from."""

import torch

from dfml.data.image_set import DataSplits, ImageSet
from dfml.zoo import Zoo
from dfml.zoo_building.build import build_zoo
from dfml.zoo_building.plan import TrainingRecipe

QUICK = TrainingRecipe(epochs=8, batch_size=16)


def image_set(name: str, classes: int, size: int = 16, per_class: int = 20) -> ImageSet:
    generator = torch.Generator().manual_seed(len(name))
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = torch.randint(0, 100, (len(labels), 3, size, size), generator=generator)
    images += torch.randint(0, 150, (classes, 3, 1, 1), generator=generator)[labels]
    return ImageSet(name, images.byte(), labels, tuple(f"{name}{c}" for c in range(classes)))


def splits(name: str = "/somewhere/toys", **changes) -> DataSplits:
    return DataSplits(name, *(image_set(part, 6, **changes) for part in ("train", "val", "test")))


def build(out, data=None, **changes) -> Zoo:
    settings = {"architecture": "conv4", "models": 3, "way": 3, "jobs": 1, "width": 4, "training": QUICK} | changes
    return build_zoo(data or splits(), out=out, **settings)
