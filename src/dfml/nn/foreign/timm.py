"""Networks of timm: ``timm:resnet18``."""

from typing import Any

from torch import nn

from dfml.nn.foreign.base import About, Options, Source, library, unknown

WANTED = "a name that timm.list_models() gives, with arguments that timm.create_model takes"


def build(name: str, options: Options, classes: int) -> nn.Module:
    """`timm.create_model`, without weights."""
    timm = library("timm", "vision")
    try:
        return timm.create_model(name, pretrained=False, num_classes=classes, **options.get("arguments", {}))
    except (RuntimeError, TypeError, ValueError) as error:
        raise unknown("timm", name, WANTED, error) from error


def about(name: str, options: Options) -> About:
    """What its pretrained_cfg says, or that of a configuration file of the model."""
    timm = library("timm", "vision")
    config: dict[str, Any] = dict(options.get("pretrained_cfg", {}))
    if not config:
        try:
            config = timm.get_pretrained_cfg(name).to_dict()
        except (RuntimeError, AttributeError) as error:
            raise unknown("timm", name, WANTED, error) from error
    channels, height, width = config.get("input_size", (3, 224, 224))
    spec: dict[str, Any] = {"channels": channels, "size": height, "width": None if width == height else width}
    spec |= {key: config[key] for key in ("mean", "std") if key in config}
    spec["interpolation"] = "bicubic" if config.get("interpolation") == "bicubic" else "bilinear"
    spec["crop"] = float(config.get("crop_pct") or 1.0)
    names = tuple(config.get("label_names") or ())
    return About(spec, names, str(config.get("license") or "unknown"))


SOURCE = Source(build, about)
