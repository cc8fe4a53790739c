"""Networks that say what they are in plain values, so that their weights can be read without knowing who wrote them."""

from typing import Any

from torch import nn

from dfml.errors import InputError

Description = dict[str, Any]
"""Plain values with the key ``kind``, one of `dfml.nn.NETWORKS`; the others are what that kind is built from."""


def describe(network: nn.Module) -> Description:
    """What `dfml.nn.build_network` needs to build this network again, apart from its weights.

    Raises:
        InputError: a network without a ``description``.
    """
    description = getattr(network, "description", None)
    if not isinstance(description, dict) or "kind" not in description:
        raise InputError(
            f"a network of type {type(network).__name__} without a description",
            "an attribute `description` of plain values, {'kind': a key of dfml.nn.NETWORKS, ...}",
            "build it with dfml.nn.build_backbone, or set the attribute and register its kind",
        )
    return description


def short_name(network: nn.Module) -> str:
    """Kind and width, for results: ``conv4-32``."""
    description = describe(network)
    width = description.get("width")
    if "source" in description:  # of another library
        return str(description["source"])
    return str(description["kind"]) + (f"-{width}" if width else "")
