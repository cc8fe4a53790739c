"""Networks for inference only: BatchNorm folded into the convolutions before it."""

import copy

import torch
from torch import nn

from dfml.nn.encoder import Encoder
from dfml.nn.resnet import BasicBlock


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    return torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)


def _fold_in(module: nn.Module) -> None:
    if isinstance(module, BasicBlock):
        module.conv1, module.conv2 = _fold(module.conv1, module.norm1), _fold(module.conv2, module.norm2)
        module.norm1 = module.norm2 = nn.Identity()  # type: ignore[assignment]
    if isinstance(module, nn.Sequential):
        for i in range(len(module) - 1):
            first, second = module[i], module[i + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[i], module[i + 1] = _fold(first, second), nn.Identity()


def inference_copy(encoder: Encoder) -> Encoder:
    """A copy that gives the same features with ``running`` statistics, up to rounding, several times faster on a CPU.

    BatchNorm is folded into the convolutions and the weights are channels-last, so the copy knows no other
    statistics and is not for training. Small batches (64 images of 32x32) are fastest: they stay in the cache.
    """
    fused = copy.deepcopy(encoder).eval().requires_grad_(False)
    for module in list(fused.modules()):
        _fold_in(module)
    return fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
