"""Networks of torchvision: ``torchvision:resnet18``."""

from typing import Any

from torch import nn

from dfml.nn.foreign.base import About, Options, Source, library, unknown

WANTED = "a name that torchvision.models.list_models() gives, with arguments that its function takes"


def build(name: str, options: Options, classes: int) -> nn.Module:
    """`torchvision.models.get_model`, without weights."""
    models = library("torchvision.models", "vision")
    try:
        return models.get_model(name, weights=None, num_classes=classes, **options.get("arguments", {}))
    except (ValueError, TypeError) as error:
        raise unknown("torchvision", name, WANTED, error) from error


def about(name: str, options: Options) -> About:
    """What its default weights were evaluated with: those of a user were most likely trained likewise."""
    models = library("torchvision.models", "vision")
    try:
        weights = models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError) as error:
        raise unknown("torchvision", name, WANTED, error) from error
    preset = weights.transforms()
    (size,), (resized,) = preset.crop_size, preset.resize_size
    spec: dict[str, Any] = {"channels": 3, "size": size, "mean": tuple(preset.mean), "std": tuple(preset.std)}
    spec["interpolation"] = "bicubic" if preset.interpolation.value == "bicubic" else "bilinear"
    spec["crop"] = min(1.0, size / resized)
    return About(spec, tuple(weights.meta.get("categories", ())))


SOURCE = Source(build, about)
