"""The sources of networks, by prefix."""

from dfml.errors import InputError
from dfml.nn.foreign import exported, onnx, python, timm, torchvision, transformers
from dfml.nn.foreign.base import Source

SOURCES: dict[str, Source] = {
    "export": exported.SOURCE,
    "onnx": onnx.SOURCE,
    "python": python.SOURCE,
    "timm": timm.SOURCE,
    "torchvision": torchvision.SOURCE,
    "transformers": transformers.SOURCE,
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
