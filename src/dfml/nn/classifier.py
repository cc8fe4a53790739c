"""A classifier is a backbone, which gives a flat feature vector, and a linear head."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.answers import AnsweringBackbone
from dfml.nn.conv4 import Conv4
from dfml.nn.description import Description, describe, short_name
from dfml.nn.encoder import InputSpec
from dfml.nn.foreign import build_foreign, foreign_features
from dfml.nn.resnet import ResNet
from dfml.nn.resnet12 import ResNet12

ARCHITECTURES: dict[str, Callable[[int | None, int, int], nn.Module]] = {
    "conv4": lambda width, size, channels: Conv4(width=width or 32, image_size=size, channels=channels),
    "conv4_growing": lambda width, size, channels: Conv4(
        width=width or 32, growth=2, image_size=size, channels=channels
    ),
    "resnet10": lambda width, size, channels: ResNet(blocks=1, width=width or 64, channels=channels),
    "resnet12": lambda width, size, channels: ResNet12(width=width or 64, channels=channels),
    "resnet18": lambda width, size, channels: ResNet(blocks=2, width=width or 64, channels=channels),
}
"""Width (None: the usual one), image size and channels to a randomly initialised backbone."""


class Classifier(nn.Module):
    """``head(backbone(x))``; inputs are already normalised.

    Args:
        backbone: maps [n, c, h, w] to [n, features] and knows ``feature_size``.
        classes: of the answers.
        head: maps features to logits; a new linear layer unless given.
    """

    def __init__(self, backbone: nn.Module, classes: int, head: nn.Module | None = None):
        super().__init__()
        self.backbone, self.classes = backbone, classes
        self.head = head or _head(backbone, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.head(self.backbone(x))


def _head(backbone: nn.Module, classes: int) -> nn.Module:
    """A new linear layer; none on a backbone that answers itself."""
    if getattr(backbone, "answers_itself", False):
        return nn.Identity()
    return nn.Linear(int(backbone.feature_size), classes)  # type: ignore[arg-type]


class SideBySide(nn.Module):
    """Several classifiers as one backbone: its features are all their logits, one after another.

    Args:
        networks: the classifiers.
        specs: of each one's images, where they differ: the backbone then takes images in [0, 1], which each fits and
            normalises itself. Without, it takes images that are normalised already, for all of them.
    """

    def __init__(self, networks: Iterable[Classifier], specs: Sequence[InputSpec] = ()):
        super().__init__()
        self.networks, self.specs = nn.ModuleList(networks), list(specs)
        self.feature_size = sum(classifier.classes for classifier in self._classifiers)

    @property
    def _classifiers(self) -> list[Classifier]:
        return list(self.networks)  # type: ignore[arg-type]

    @property
    def description(self) -> Description:
        """See `build_network`."""
        heads = [{"backbone": describe(c.backbone), "classes": c.classes} for c in self._classifiers]
        specs = {"input_specs": [spec.to_dict() for spec in self.specs]} if self.specs else {}
        return {"kind": "side_by_side", "classifiers": heads} | specs

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n outputs"]:
        """All logits."""
        if not self.specs:
            return torch.cat([network(x) for network in self.networks], -1)
        each = zip(self.networks, self.specs, strict=True)
        return torch.cat([network(spec.normalise(spec.fit(x))) for network, spec in each], -1)


def networks_of(backbone: nn.Module) -> list[nn.Module]:
    """The backbones that are run for its features: itself, or those side by side in it."""
    if isinstance(backbone, AnsweringBackbone):
        return networks_of(backbone.backbone)
    if isinstance(backbone, SideBySide):
        return [cast(Classifier, network).backbone for network in backbone.networks]
    return [backbone]


WIDEST = 4096  # channels of a first block


def build_backbone(architecture: str, *, image_size: int, channels: int = 3, width: int | None = None) -> nn.Module:
    """A randomly initialised backbone by name; ``width`` None is the architecture's usual one.

    A network of timm is named as in ``timm:resnet18``.

    Raises:
        InputError: an unknown name, no width, or an image size that the network cannot take.
    """
    if architecture.startswith("timm:"):
        return foreign_features(architecture, (channels, image_size, image_size))
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"architecture {architecture!r}", f"one of {known}", "change --arch or the model card")
    check_width(architecture, width)
    backbone = ARCHITECTURES[architecture](width, image_size, channels)
    backbone.description = {  # type: ignore[assignment]
        "kind": architecture,
        "width": _width(backbone),
        "image_size": image_size,
        "channels": channels,
    }
    return backbone


def check_width(architecture: str, width: Any) -> None:
    """Refuse what is no number of channels, as a user or a card may give it.

    Raises:
        InputError: neither None nor a whole number of a sound size.
    """
    if width is not None and (not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= WIDEST):
        raise InputError(
            f"width {width!r} of a {architecture}",
            f"channels of its first block, a whole number from 1 to {WIDEST}",
            "correct it (--width; options of a model's card)",
        )


def _width(backbone: nn.Module) -> int:
    """Channels of the first convolution."""
    return next(m.out_channels for m in backbone.modules() if isinstance(m, nn.Conv2d))


def build_network(description: Description) -> nn.Module:
    """A network from its own description, with random weights.

    Raises:
        InputError: an unknown kind, or values that its kind does not take.
    """
    values = dict(description)
    kind = values.pop("kind", None)
    if kind not in NETWORKS:
        raise InputError(f"a network of kind {kind!r}", f"one of {', '.join(NETWORKS)}", "import what registers it")
    try:
        return NETWORKS[kind](values)
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"a network {kind} of {values} ({type(error).__name__}: {error})",
            "the description that such a network gives of itself",
            "copy the file again from where it was written",
        ) from error


def _architecture(name: str) -> Callable[[Description], nn.Module]:
    return lambda values: build_backbone(name, **values)


def _answering(values: Description) -> nn.Module:
    return AnsweringBackbone(build_network(values.pop("backbone")), values.pop("classes"), **values)


def _side_by_side(values: Description) -> nn.Module:
    networks = [Classifier(build_network(c["backbone"]), c["classes"]) for c in values["classifiers"]]
    return SideBySide(networks, [InputSpec.from_dict(spec) for spec in values.get("input_specs", [])])


NETWORKS: dict[str, Callable[[Description], nn.Module]] = {
    **{name: _architecture(name) for name in ARCHITECTURES},
    "answering": _answering,
    "foreign": build_foreign,
    "side_by_side": _side_by_side,
}
"""Kind of a description -> what builds the network from the rest of it; others may add theirs."""


def network_name(backbones: Iterable[nn.Module]) -> str:
    """For results: architecture and width of each kind among the backbones, for example ``conv4-32+resnet10-64``."""
    return "+".join(sorted({short_name(part) for backbone in backbones for part in networks_of(backbone)}))
