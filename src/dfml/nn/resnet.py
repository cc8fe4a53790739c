"""ResNet-10 and ResNet-18 as the data-free meta-learning papers use them on small images."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.nn.conv4 import initialise
from dfml.nn.norm import BatchNorm2d


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the shortcut is a 1x1 convolution where shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = BatchNorm2d(outputs)
        self.shortcut, self.stride = nn.Sequential(), stride
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """The block's output after its last ReLU."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        # The stride is taken here: oneDNN writes past its memory in strided 1x1 convolutions of few channels.
        return F.relu(y + self.shortcut(x[..., :: self.stride, :: self.stride]))


class ResNet(nn.Module):
    """Four stages of basic blocks, average-pooled; 3x3 stem of stride 1 without ReLU or pooling, as published.

    Args:
        blocks: basic blocks per stage (1 gives ResNet-10, 2 gives ResNet-18).
        width: channels of the first stage; later stages double it.
        channels: channels of the images.
    """

    def __init__(self, *, blocks: int, width: int = 64, channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), BatchNorm2d(width))
        stages: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            for block in range(blocks):
                stages.append(BasicBlock(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.feature_size = inputs
        initialise(self)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Average-pooled features of the last stage."""
        return self.stages(self.stem(x)).mean((2, 3))
