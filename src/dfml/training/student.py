"""The network that learns from a zoo: new, or a copy of a teacher."""

import copy
from dataclasses import replace

from torch import nn

from dfml.errors import InputError
from dfml.nn import InputSpec, build_backbone
from dfml.zoo.store import Zoo

COPY = "teacher:"


def student_backbone(
    network: str, zoo: Zoo, canvas: InputSpec, *, width: int | None = None
) -> tuple[nn.Module, InputSpec]:
    """A backbone for images of the canvas, and how these are normalised for it.

    Args:
        network: see `dfml.nn.build_backbone`; or ``teacher:ID``, whose weights it begins with.
        zoo: of the teachers.
        canvas: the images.
        width: channels of a new network.

    Raises:
        InputError: an unknown name, or a teacher whose images are of another size than the canvas.
    """
    if not network.startswith(COPY):
        return build_backbone(network, image_size=canvas.size, channels=canvas.channels, width=width), canvas
    name = network.removeprefix(COPY)
    own, spec = zoo.network(name), zoo.cards[name].input_spec
    if spec.shape != canvas.shape:
        raise InputError(
            f"a copy of {name}, which takes images of {spec.shape}, for a canvas of {canvas.shape}",
            "one size",
            f"set the canvas to {spec.size} (--run.canvas {spec.size}), or start from a new network",
        )
    return copy.deepcopy(own.backbone).requires_grad_(True), replace(canvas, mean=spec.mean, std=spec.std)
