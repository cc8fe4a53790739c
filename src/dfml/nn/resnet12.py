"""ResNet-12, the larger network of few-shot learning."""

from jaxtyping import Float
from torch import Tensor, nn

from dfml.nn.conv4 import initialise
from dfml.nn.norm import BatchNorm2d
from dfml.nn.pooling import MaxPool2x2

STAGES = (1.0, 2.5, 5.0, 10.0)  # times the width: 64, 160, 320, 640


class ResNet12(nn.Module):
    """Four residual blocks of three 3x3 convolutions with LeakyReLU, 2x2 max-pooling after each; average-pooled.

    The network of Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR 2019, without DropBlock.

    Args:
        width: channels of the first block.
        channels: channels of the images.
    """

    def __init__(self, *, width: int = 64, channels: int = 3):
        super().__init__()
        sizes = [round(width * stage) for stage in STAGES]
        self.blocks = nn.Sequential(*(_Block(i, o) for i, o in zip([channels, *sizes[:-1]], sizes, strict=True)))
        self.feature_size = sizes[-1]
        initialise(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Average-pooled features of the last block."""
        return self.blocks(x).mean((2, 3))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        for i in (inputs, outputs, outputs):
            layers += [nn.Conv2d(i, outputs, 3, padding=1, bias=False), BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
        self.residual = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs))
        self.after = nn.Sequential(nn.LeakyReLU(0.1), MaxPool2x2())

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Half the height and width."""
        return self.after(self.residual(x) + self.shortcut(x))
