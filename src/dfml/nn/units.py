"""Which channels of a network may change places: what reads and writes each set of them."""

from collections.abc import Iterable
from typing import cast

from torch import nn

from dfml.errors import InputError
from dfml.functional.matching import Units
from dfml.nn.conv4 import Conv4
from dfml.nn.resnet import BasicBlock, ResNet
from dfml.nn.resnet12 import ResNet12


class _Group:
    """The tensors of one set of channels, while they are collected."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.reads: list[str] = []

    def written_by(self, name: str, layer: nn.Module) -> None:
        """Weights and statistics of a convolution or BatchNorm; not its count of batches."""
        self.writes += [f"{name}.{key}" for key, value in layer.state_dict().items() if value.ndim]

    def read_by(self, name: str) -> None:
        """The weight of a convolution."""
        self.reads.append(f"{name}.weight")


def interchangeable_units(backbone: nn.Module) -> list[Units]:
    """The sets of channels of a backbone, inputs before what reads them; the last one is its features' channels.

    Raises:
        InputError: an architecture of which nobody wrote them down.
    """
    if isinstance(backbone, Conv4):
        groups = _chain((f"blocks.{name}", layer) for name, layer in backbone.blocks.named_children())
    elif isinstance(backbone, ResNet):
        groups = _resnet(backbone)
    elif isinstance(backbone, ResNet12):
        groups = _resnet12(backbone)
    else:
        raise InputError(
            f"a {type(backbone).__name__}, whose channels are to be reordered",
            "a network of dfml's own: conv4, conv4_growing, resnet10, resnet12 or resnet18",
            "choose another method",
        )
    return [(tuple(group.writes), tuple(group.reads)) for group in groups]


def _chain(layers: Iterable[tuple[str, nn.Module]]) -> list[_Group]:
    """Convolutions one after another, each with its BatchNorm."""
    groups: list[_Group] = []
    for name, layer in layers:
        if isinstance(layer, nn.Conv2d):
            if groups:
                groups[-1].read_by(name)
            groups.append(_Group())
        groups[-1].written_by(name, layer)
    return groups


def _resnet(backbone: ResNet) -> list[_Group]:
    """A shortcut that changes nothing ties the channels of a block's output to those of its input."""
    stream, *_ = groups = _chain((f"stem.{name}", layer) for name, layer in backbone.stem.named_children())
    for number, module in enumerate(backbone.stages):
        name, block = f"stages.{number}", cast(BasicBlock, module)
        inner = _Group()
        groups.append(inner)
        stream.read_by(f"{name}.conv1")
        inner.written_by(f"{name}.conv1", block.conv1)
        inner.written_by(f"{name}.norm1", block.norm1)
        inner.read_by(f"{name}.conv2")
        if len(block.shortcut):
            stream.read_by(f"{name}.shortcut.0")
            stream = _Group()
            groups.append(stream)
            stream.written_by(f"{name}.shortcut", block.shortcut)
        stream.written_by(f"{name}.conv2", block.conv2)
        stream.written_by(f"{name}.norm2", block.norm2)
    return groups


def _resnet12(backbone: ResNet12) -> list[_Group]:
    groups: list[_Group] = []
    for number, block in enumerate(backbone.blocks):
        name, residual = f"blocks.{number}", cast(nn.Sequential, block.residual)
        if groups:
            groups[-1].read_by(f"{name}.residual.0")
            groups[-1].read_by(f"{name}.shortcut.0")
        groups += _chain((f"{name}.residual.{key}", layer) for key, layer in residual.named_children())
        groups[-1].written_by(f"{name}.shortcut", cast(nn.Module, block.shortcut))
    return groups
