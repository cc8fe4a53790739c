"""Networks of other libraries, as dfml's own: a backbone that gives flat features, and what answers on them.

A source is a prefix and one file here: how its networks are built without weights, and what it knows of their images
and classes. Networks that are files themselves (`torch.export`, ONNX) carry their file along as their state.
"""

from dfml.nn.foreign.backbone import ForeignBackbone, as_logits, as_tensor, build_foreign, foreign_features, take_apart
from dfml.nn.foreign.base import About, Source
from dfml.nn.foreign.files import Archived
from dfml.nn.foreign.sources import SOURCES, source_of

__all__ = [
    "SOURCES",
    "About",
    "Archived",
    "ForeignBackbone",
    "Source",
    "as_logits",
    "as_tensor",
    "build_foreign",
    "foreign_features",
    "source_of",
    "take_apart",
]
