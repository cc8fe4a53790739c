"""A classifier is a backbone, which gives a flat feature vector, and a linear head."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.answers import AnsweringBackbone
from dfml.nn.conv4 import Conv4
from dfml.nn.resnet import ResNet
from dfml.nn.resnet12 import ResNet12

ARCHITECTURES = {
    "conv4": lambda width, size, channels: Conv4(width=width or 32, image_size=size, channels=channels),
    "resnet10": lambda width, size, channels: ResNet(blocks=1, width=width or 64, channels=channels),
    "resnet12": lambda width, size, channels: ResNet12(width=width or 64, channels=channels),
    "resnet18": lambda width, size, channels: ResNet(blocks=2, width=width or 64, channels=channels),
}


class Classifier(nn.Module):
    """``head(backbone(x))``; inputs are already normalised.

    Args:
        backbone: maps [n, c, h, w] to [n, features] and knows ``feature_size``.
        classes: rows of the head.
    """

    def __init__(self, backbone: nn.Module, classes: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(int(backbone.feature_size), classes)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.head(self.backbone(x))


class SideBySide(nn.Module):
    """Several classifiers of one input as one backbone: its features are all their logits, one after another."""

    def __init__(self, networks: Iterable[Classifier]):
        super().__init__()
        classifiers = list(networks)
        self.networks = nn.ModuleList(classifiers)
        self.feature_size = sum(classifier.head.out_features for classifier in classifiers)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n outputs"]:
        """All logits; inputs are already normalised."""
        return torch.cat([network(x) for network in self.networks], -1)


def answering_side_by_side(networks: Iterable[Classifier], classes: Sequence[Sequence[int]]) -> AnsweringBackbone:
    """An `AnsweringBackbone` whose answers are those of the classifiers themselves."""
    answering = AnsweringBackbone(SideBySide(networks), classes)
    answering.heads = nn.Identity()  # type: ignore[assignment]
    return answering


def networks_of(backbone: nn.Module) -> list[nn.Module]:
    """The backbones that are run for its features: itself, or those side by side in it."""
    if isinstance(backbone, AnsweringBackbone):
        return networks_of(backbone.backbone)
    if isinstance(backbone, SideBySide):
        return [cast(Classifier, network).backbone for network in backbone.networks]
    return [backbone]


def build_backbone(architecture: str, *, image_size: int, channels: int = 3, width: int | None = None) -> nn.Module:
    """A randomly initialised backbone by name; ``width`` None is the architecture's usual one.

    Raises:
        InputError: an unknown name, or an image size that the network cannot take.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"architecture {architecture!r}", f"one of {known}", "change --arch or the model card")
    return ARCHITECTURES[architecture](width, image_size, channels)


def architecture_of(backbone: nn.Module) -> tuple[str, int]:
    """Name and width of a backbone: what `build_backbone` needs to build it again.

    Raises:
        InputError: a network that is not one of `ARCHITECTURES`.
    """
    if isinstance(backbone, AnsweringBackbone):
        return architecture_of(backbone.backbone)
    if isinstance(backbone, Conv4):
        return "conv4", int(backbone.blocks[0].out_channels)  # type: ignore[arg-type]
    if isinstance(backbone, ResNet):
        name = {4: "resnet10", 8: "resnet18"}.get(len(backbone.stages))
        if name is not None:
            return name, int(backbone.stem[0].out_channels)  # type: ignore[arg-type]
    if isinstance(backbone, ResNet12):
        return "resnet12", int(backbone.blocks[0].residual[0].out_channels)  # type: ignore[union-attr,index]
    known = ", ".join(ARCHITECTURES)
    raise InputError(f"a backbone of type {type(backbone).__name__}", f"one of {known}", "use one of these networks")


def network_name(backbones: Iterable[nn.Module]) -> str:
    """For results: architecture and width of each kind among the backbones, for example ``conv4-32+resnet10-64``."""
    parts = {"{}-{}".format(*architecture_of(part)) for backbone in backbones for part in networks_of(backbone)}
    return "+".join(sorted(parts))
