"""Runs that go on with a zoo which more models have joined."""

from typing import Any

from dfml.errors import InputError
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.randomness import Rng
from dfml.zoo import Zoo

Stages = list[list[str]]
"""The models that a run began with, and those that joined its zoo each time that it went on."""


def joined(zoo: Zoo, about: dict[str, Any]) -> list[str]:
    """The models that joined the zoo of a run since; none where it is another zoo or the same.

    Args:
        zoo: as it is now.
        about: the zoo as the run folder describes it.
    """
    before = [i for stage in about.get("stages", []) for i in stage]
    if not before or not set(before) < set(zoo.ids) or zoo.subset(before).hash != about["hash"]:
        return []
    return [i for i in zoo.ids if i not in set(before)]


def check_grows(method: AbstractMethod, zoo: Zoo, about: dict[str, Any]) -> None:
    """Refuse models that joined where the method cannot go on with them.

    Raises:
        InputError: it cannot, or they change the images that are recovered.
    """
    if not (more := joined(zoo, about)):
        return
    if not method.grows:
        raise InputError(
            f"{len(more)} models joined zoo {zoo.name} since the run began, as {more[0]}",
            f"a method that goes on with a larger zoo, as consolidate does; {type(method).__name__} does not",
            "train anew with another --out, or go on with the zoo as it was",
        )
    before = zoo.subset([i for stage in about["stages"] for i in stage]).canvas
    if zoo.canvas.shape != before.shape:
        raise InputError(
            f"a canvas of {zoo.canvas.shape} for zoo {zoo.name} as it is now, of {before.shape} as it was",
            "the canvas that the run began with",
            "train anew with another --out, or leave out the models that change it",
        )


def initial_state(method: AbstractMethod, zoo: Zoo, stages: Stages, rng: Rng) -> AbstractState:
    """A state before the first step, of the zoo as it was at first, and grown by each later stage."""
    first = zoo.subset(stages[0]) if stages and stages[0] != zoo.ids else zoo
    state = method.init(first, rng)
    for number in range(1, len(stages)):
        grow(method, state, zoo, stages, number, rng)
    return state


def grow(method: AbstractMethod, state: AbstractState, zoo: Zoo, stages: Stages, number: int, rng: Rng) -> None:
    """Take the models of a stage into account, in the zoo as it was then."""
    then = zoo.subset([i for stage in stages[: number + 1] for i in stage])
    method.grow(state, then, stages[number], rng.at("grown", number))
