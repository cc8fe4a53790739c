"""Networks: backbones, generators and the BatchNorm policy."""

from dfml.nn.answers import AnsweringBackbone
from dfml.nn.classifier import (
    ARCHITECTURES,
    NETWORKS,
    Classifier,
    SideBySide,
    build_backbone,
    build_network,
    network_name,
    networks_of,
)
from dfml.nn.description import Description, describe
from dfml.nn.encoder import Encoder, InputSpec, as_floats, as_images, mixing_features, resized
from dfml.nn.fuse import inference_copy
from dfml.nn.norm import (
    BatchNorm2d,
    Norm,
    batch_statistics,
    check_norm,
    given_statistics,
    is_transductive,
    norm_layers,
    one_after_another,
    record_statistics,
    several_batches,
    write_norm,
)

__all__ = [
    "ARCHITECTURES",
    "NETWORKS",
    "AnsweringBackbone",
    "BatchNorm2d",
    "Classifier",
    "Description",
    "Encoder",
    "InputSpec",
    "Norm",
    "SideBySide",
    "as_floats",
    "as_images",
    "batch_statistics",
    "build_backbone",
    "build_network",
    "check_norm",
    "describe",
    "given_statistics",
    "inference_copy",
    "is_transductive",
    "mixing_features",
    "network_name",
    "networks_of",
    "norm_layers",
    "one_after_another",
    "record_statistics",
    "resized",
    "several_batches",
    "write_norm",
]
