"""The weights of a zoo whose networks are alike: what methods that fuse them share."""

import torch
from torch import nn

from dfml.errors import InputError
from dfml.functional.inner import Parameters
from dfml.nn.description import short_name
from dfml.zoo.store import Zoo


def check_one_architecture(zoo: Zoo) -> None:
    """Refuse a zoo whose weights cannot be fused tensor by tensor.

    Raises:
        InputError: teachers of different architectures or widths, or that are not dfml's own.
    """
    if foreign := [i for i in zoo.ids if not zoo.entry(i).source.startswith("dfml:")]:
        raise InputError(
            f"zoo {zoo.name} with {foreign[0]}, a model of {zoo.entry(foreign[0]).source}",
            "networks of dfml's own, whose weights lie open",
            "choose another method",
        )
    kinds = sorted({short_name(zoo.network(i).backbone) for i in zoo.ids})
    if len(kinds) > 1:
        raise InputError(
            f"zoo {zoo.name} with {', '.join(kinds)}", "one architecture and width", "choose another method"
        )


def float_tensors(network: nn.Module) -> Parameters:
    """Parameters and buffers by name, the tensors themselves, BatchNorm's counters left out."""
    return {name: t.detach() for name, t in network.state_dict().items() if torch.is_floating_point(t)}
