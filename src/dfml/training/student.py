"""The network that learns from a zoo: new, or a copy of a teacher."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn import AnsweringBackbone, Encoder, InputSpec, build_backbone
from dfml.training.sight import Sight
from dfml.zoo.store import Zoo

COPY = "teacher:"
Said = Callable[[Encoder, Sight, Tensor], tuple[Tensor, Tensor]]


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


def student_said(
    student: Encoder, sight: Sight, images: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n outputs"], Float[Tensor, "n numbers"]]:
    """Logits of all heads on images in [0, 1], and what the student takes the teachers to see."""
    backbone = cast(AnsweringBackbone, student.backbone)
    hidden = backbone.trunk(backbone.backbone(student.normalise(images)))
    return backbone.heads(hidden), sight(hidden)


def _logits(student: Encoder, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n outputs"]:
    """Logits of all heads on images in [0, 1]."""
    return cast(AnsweringBackbone, student.backbone).logits(student.normalise(images))


def ready(student: Encoder) -> Encoder:
    """As it is kept between updates: for inference, and in the layout that is fastest."""
    return student.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def grown(student: Encoder, classes: Sequence[Sequence[int]]) -> Encoder:
    """The same student with heads for more teachers; see `dfml.nn.AnsweringBackbone.grown`."""
    return ready(Encoder(cast(AnsweringBackbone, student.backbone).grown(classes), student.spec))


def head_of(student: Encoder, outputs: slice, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
    """A student's logits in the place of one teacher, ``outputs`` among all."""
    return _logits(student, images)[:, outputs]
