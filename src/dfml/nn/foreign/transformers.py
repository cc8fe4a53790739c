"""Image classifiers of transformers: ``transformers:vit``, with the values of their ``config.json``."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from dfml.nn.foreign.base import About, Options, Source, library, unknown


def build(name: str, options: Options, classes: int) -> nn.Module:
    """`AutoModelForImageClassification.from_config`: code of the library alone, never of a hub."""
    transformers = library("transformers", "vision")
    config = {k: v for k, v in options.get("config", {}).items() if k not in ("model_type", "num_labels")}
    if len(config.get("id2label", {})) != classes:
        config = {k: v for k, v in config.items() if k not in ("id2label", "label2id")} | {"num_labels": classes}
    try:
        known = transformers.AutoConfig.for_model(name, **config)
        return transformers.AutoModelForImageClassification.from_config(known, trust_remote_code=False)
    except (ValueError, TypeError, KeyError) as error:
        wanted = "a model type that transformers' AutoModelForImageClassification knows"
        raise unknown("transformers", name, wanted, error) from error


def about(name: str, options: Options) -> About:
    """What ``config.json`` says of classes, and ``preprocessor_config.json`` of images."""
    config, images = options.get("config", {}), options.get("preprocessor", {})
    spec: dict[str, Any] = {}
    size: Any = images.get("crop_size") if images.get("do_center_crop") else None
    size = size or images.get("size") or config.get("image_size")
    if isinstance(size, Mapping):
        height = size.get("height") or size.get("shortest_edge")
        size, width = height, size.get("width", height)
        spec["width"] = None if width == height else width
    if isinstance(size, int):
        spec["size"] = size
    for key in ("mean", "std"):
        if f"image_{key}" in images:
            spec[key] = tuple(images[f"image_{key}"])
    if images.get("do_normalize") is False:
        spec |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if "num_channels" in config:
        spec["channels"] = config["num_channels"]
    spec["interpolation"] = {0: "nearest", 3: "bicubic"}.get(images.get("resample", 2), "bilinear")
    if crop := images.get("crop_pct"):
        spec["crop"] = crop
    labels = config.get("id2label") or {}
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    return About(spec, () if _nameless(names) else names)


def _nameless(names: tuple[str, ...]) -> bool:
    """Whether these are the library's own stand-ins, which say nothing."""
    return names == tuple(f"LABEL_{i}" for i in range(len(names)))


SOURCE = Source(build, about)
