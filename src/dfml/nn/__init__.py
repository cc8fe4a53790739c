"""Networks: backbones, generators and the BatchNorm policy."""

from dfml.nn.classifier import ARCHITECTURES, Classifier, build_backbone
from dfml.nn.encoder import Encoder, InputSpec
from dfml.nn.norm import BatchNorm2d, Norm, batch_statistics, given_statistics, record_statistics

__all__ = [
    "ARCHITECTURES",
    "BatchNorm2d",
    "Classifier",
    "Encoder",
    "InputSpec",
    "Norm",
    "batch_statistics",
    "build_backbone",
    "given_statistics",
    "record_statistics",
]
