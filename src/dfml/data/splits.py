"""Splits by class: no class of meta-train may be met again in validation or test."""

import torch

from dfml.data.image_set import DataSplits, ImageSet
from dfml.errors import InputError
from dfml.randomness import Rng

FRACTIONS = (0.64, 0.16, 0.20)


def split_classes(images: ImageSet, *, seed: int = 0) -> DataSplits:
    """Split one set by class, 64 / 16 / 20 % of the classes; each split keeps the order of the class names.

    Args:
        images: at least 3 classes.
        seed: which classes go where.

    Raises:
        InputError: fewer than 3 classes.
    """
    count = len(images.class_names)
    if count < 3:
        raise InputError(
            f"{images.name}: {count} classes in a set that is not split",
            "at least 3 classes, one for each of train, val and test",
            "add classes, or give a folder that holds train, val and test",
        )
    val, test = (max(1, round(count * fraction)) for fraction in FRACTIONS[1:])
    order = torch.randperm(count, generator=Rng(seed).generator("class split")).tolist()
    parts = order[: count - val - test], order[count - val - test : count - test], order[count - test :]
    sets = []
    for split, part in zip(("train", "val", "test"), parts, strict=True):
        own = images.classes(sorted(part))
        sets.append(ImageSet(f"{images.name}/{split}", own.images, own.labels, own.class_names))
    return DataSplits(images.name, *sets)


def given_splits(name: str, train: ImageSet, val: ImageSet, test: ImageSet) -> DataSplits:
    """Splits that somebody else chose, used as they are.

    Raises:
        InputError: a class name that stands in two of them, or images that differ in shape.
    """
    sets = {"train": train, "val": val, "test": test}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        common = sorted(set(sets[one].class_names) & set(sets[other].class_names))
        if common:
            more = f" and {len(common) - 5} more" if len(common) > 5 else ""
            raise InputError(
                f"{name}: {one} and {other} both have the classes {', '.join(common[:5])}{more}",
                "train, val and test with no class in common: few-shot learning is judged on unseen classes",
                f"move or rename these classes in {sets[one].name} or {sets[other].name}",
            )
        if sets[one].images.shape[1:] != sets[other].images.shape[1:]:
            raise InputError(
                f"{name}: images {tuple(sets[one].images.shape[1:])} in {one}, "
                f"{tuple(sets[other].images.shape[1:])} in {other} (channels, height, width)",
                "the same shape in every split",
                "resize one of them; for folders give a size",
            )
    return DataSplits(name, train, val, test)
