"""Conv4, the four-block network of few-shot learning."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.norm import BatchNorm2d
from dfml.nn.pooling import MaxPool2x2


def initialise(module: nn.Module) -> None:
    """He initialisation over the fan-out, N(0, 2 / (k^2 out)), as the few-shot literature uses; BatchNorm 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, BatchNorm, ReLU and 2x2 max-pooling; the last block, flattened.

    Args:
        width: channels of the first block.
        growth: of the channels from block to block; at 2 they double where the maps are halved, which costs little.
            Where they grow, BatchNorm comes after the pooling and normalises a quarter of the numbers: no less
            accurate, and an update takes a tenth less.
        image_size: height and width of the images; at least 16, because each block halves them.
        channels: channels of the images.

    Raises:
        InputError: ``image_size`` below 16.
    """

    def __init__(self, *, width: int = 32, growth: int = 1, image_size: int = 32, channels: int = 3):
        super().__init__()
        if image_size < 16:
            raise InputError(
                f"image size {image_size} for conv4",
                "at least 16 pixels: four blocks halve the image four times",
                "use larger images (--image-size), or a resnet10",
            )
        blocks: list[nn.Module] = []
        widths = [width * growth**block for block in range(4)]
        for inputs, outputs in zip([channels, *widths], widths, strict=False):
            norm, pool = BatchNorm2d(outputs), MaxPool2x2()
            ordered = (norm, pool) if growth == 1 else (pool, norm)
            blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), *ordered, nn.ReLU()]
        self.blocks = nn.Sequential(*blocks)
        self.feature_size = widths[-1] * (image_size >> 4) ** 2
        initialise(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Features of the last block, flattened."""
        return self.blocks(x).flatten(1)
