"""Networks: backbones, generators and the BatchNorm policy."""

from dfml.nn.answers import AnsweringBackbone
from dfml.nn.classifier import (
    ARCHITECTURES,
    Classifier,
    SideBySide,
    answering_side_by_side,
    architecture_of,
    build_backbone,
    network_name,
    networks_of,
)
from dfml.nn.encoder import Encoder, InputSpec
from dfml.nn.fuse import inference_copy
from dfml.nn.norm import (
    BatchNorm2d,
    Norm,
    batch_statistics,
    given_statistics,
    norm_layers,
    one_after_another,
    record_statistics,
    several_batches,
)

__all__ = [
    "ARCHITECTURES",
    "AnsweringBackbone",
    "BatchNorm2d",
    "Classifier",
    "Encoder",
    "InputSpec",
    "Norm",
    "SideBySide",
    "answering_side_by_side",
    "architecture_of",
    "batch_statistics",
    "build_backbone",
    "given_statistics",
    "inference_copy",
    "network_name",
    "networks_of",
    "norm_layers",
    "one_after_another",
    "record_statistics",
    "several_batches",
]
