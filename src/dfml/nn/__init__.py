"""Networks: backbones, generators and the BatchNorm policy."""

from dfml.nn.answers import AnsweringBackbone
from dfml.nn.classifier import ARCHITECTURES, Classifier, architecture_of, build_backbone, network_name
from dfml.nn.encoder import Encoder, InputSpec
from dfml.nn.fuse import inference_copy
from dfml.nn.norm import BatchNorm2d, Norm, batch_statistics, given_statistics, norm_layers, record_statistics

__all__ = [
    "ARCHITECTURES",
    "AnsweringBackbone",
    "BatchNorm2d",
    "Classifier",
    "Encoder",
    "InputSpec",
    "Norm",
    "architecture_of",
    "batch_statistics",
    "build_backbone",
    "given_statistics",
    "inference_copy",
    "network_name",
    "norm_layers",
    "record_statistics",
]
