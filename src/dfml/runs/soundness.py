"""Steps that leave numbers which are none, or images that are all alike: found, taken back, traced to their cause."""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from dfml.errors import NoAnswer, NotFinite
from dfml.methods.base import AbstractState, StepReport, Teachers
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import most_told

PROBES = 16  # random images that a suspected teacher is asked about
SAME = 1e-6  # of its largest answer: what a teacher's answers may differ by where they do not depend on the image
ALIKE = 1 / 255  # spread of the images of a class below which the generator shows one picture; 0.04 to 0.2 is usual
HALVINGS = 5  # of the step size, before training is given up


class Collapsed(Exception):
    """A step whose recovered images are alike in each class."""


def learned(state: AbstractState) -> dict[str, Any]:
    """What a step moves by gradients: every part but the banks, which refuse what is no number."""
    return {
        name: part
        for name, part in state.parts().items()
        if isinstance(part, nn.Module | torch.optim.Optimizer) or hasattr(part, "optimiser")
    }


class Snapshot:
    """A copy of what a state has learned, to go back to."""

    def __init__(self, state: AbstractState):
        self.step, self.state = state.step, state
        self.copies = {name: copy.deepcopy(part.state_dict()) for name, part in learned(state).items()}

    def restore(self) -> None:
        """Take the step back."""
        self.state.step = self.step
        for name, part in learned(self.state).items():
            part.load_state_dict(self.copies[name])


def check_step(state: AbstractState, report: StepReport) -> None:
    """One reduction over all weights, after the terms that are at hand anyway.

    Raises:
        NotFinite: a term or a weight is NaN or infinite.
        Collapsed: the recovered images of a class are one picture.
    """
    if (spread := report.terms.get("spread", 1.0)) < ALIKE:
        raise Collapsed(f"recovered images of a class differ by {spread:.1g} of full scale")
    if bad := [name for name, value in report.terms.items() if not math.isfinite(value)]:
        raise NotFinite(f"{', '.join(bad)} that is NaN or infinite")
    weights = [value for part in learned(state).values() for value in _tensors(part.state_dict())]
    floats = [value for value in weights if value.is_floating_point() and value.numel()]
    if floats and not bool(torch.stack([n.to(floats[0]) for n in torch._foreach_norm(floats)]).isfinite().all()):
        raise NotFinite("weights that are NaN or infinite")


def slow_down(state: AbstractState) -> bool:
    """Halve the step size of what shows images; False where nothing learns that, or it has been halved often."""
    optimiser = getattr(getattr(state, "recovery", None), "optimiser", None)
    groups = optimiser.param_groups if optimiser else []
    for group in groups:
        group["lr"] /= 2
        group["halved"] = group.get("halved", 0) + 1
    return bool(groups) and all(group["halved"] <= HALVINGS for group in groups)


def unsound_teachers(teachers: Teachers, canvas: InputSpec, *, free: bool = False) -> dict[str, str]:
    """Those of a step's teachers whose answers on random images are no numbers, or one and the same.

    Args:
        teachers: of the step.
        canvas: size of the images.
        free: ask those alone whose weights are at hand.

    Returns:
        The reason of each.
    """
    found: dict[str, str] = {}
    images = torch.rand(PROBES, *canvas.shape, generator=Rng(0).generator("probe"))
    for role in teachers:
        for teacher in teachers[role]:
            if free and Capability.GRADIENTS not in teacher.capabilities:
                continue
            with suppress(NoAnswer):  # no news of its numbers; the next step meets it
                if teacher.card.id not in found and (reason := _unsound(teacher, images)):
                    found[teacher.card.id] = reason
    return found


def _unsound(teacher: Teacher, images: Tensor) -> str | None:
    images = images.to(teacher.device)
    said = teacher.answers(images, most_told(teacher))
    if not bool(said.isfinite().all()):
        return "its answers are NaN or infinite"
    if said.ndim > 1 and float((said.amax(0) - said.amin(0)).max()) <= SAME * float(said.abs().max()):
        return "its answers are the same whatever the image"
    if Capability.GRADIENTS in teacher.capabilities:
        images = images.requires_grad_()
        (gradient,) = torch.autograd.grad(teacher.forward(images).logits.float().logsumexp(-1).sum(), [images])
        if not bool(gradient.isfinite().all()):
            return "gradients through it are NaN or infinite"
    return None


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list):
        children: Iterable[Any] = tree.values() if isinstance(tree, dict) else tree
        for child in children:
            yield from _tensors(child)
