"""A classifier is a backbone, which gives a flat feature vector, and a linear head."""

from collections.abc import Iterable

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
    return "+".join(sorted({"{}-{}".format(*architecture_of(backbone)) for backbone in backbones}))
