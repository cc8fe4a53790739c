"""The sources of networks, by prefix."""

from dfml.errors import InputError
from dfml.nn.foreign.base import Source
from dfml.nn.foreign.exported import SOURCE as EXPORT
from dfml.nn.foreign.onnx import SOURCE as ONNX
from dfml.nn.foreign.python import SOURCE as PYTHON
from dfml.nn.foreign.timm import SOURCE as TIMM
from dfml.nn.foreign.torchvision import SOURCE as TORCHVISION
from dfml.nn.foreign.transformers import SOURCE as TRANSFORMERS

SOURCES: dict[str, Source] = {
    "export": EXPORT,
    "onnx": ONNX,
    "python": PYTHON,
    "timm": TIMM,
    "torchvision": TORCHVISION,
    "transformers": TRANSFORMERS,
}
"""Prefix of a card's source -> how such networks are built."""


def source_of(source: str) -> tuple[Source, str]:
    """The source of ``prefix:name``, and the name.

    Raises:
        InputError: an unknown prefix.
    """
    prefix, _, name = source.partition(":")
    if prefix not in SOURCES:
        raise InputError(f"source {source!r} of a model", f"one of {', '.join(SOURCES)}", "correct the source")
    return SOURCES[prefix], name
