"""A classifier is a backbone, which gives a flat feature vector, and a linear head."""

from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.conv4 import Conv4
from dfml.nn.resnet import ResNet

ARCHITECTURES = {
    "conv4": lambda width, size, channels: Conv4(width=width or 32, image_size=size, channels=channels),
    "resnet10": lambda width, size, channels: ResNet(blocks=1, width=width or 64, channels=channels),
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
