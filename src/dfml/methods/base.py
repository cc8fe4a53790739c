"""The contract of a method: one paper, one final class."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

import torch

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.learners.base import AbstractLearner, Metrics
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import OnDemand, Teacher


class Role(Enum):
    """Why a step needs a teacher."""

    VISIT = "to recover images from it"
    REVIEW = "to answer on its images in the bank"
    ANSWER = "to answer on images of any teacher"


Plan = dict[Role, list[str]]
"""The ids of the teachers that a step needs, in order; a role that is absent has none."""
Teachers = Mapping[Role, OnDemand]
"""The teachers of a plan, loaded when asked for (so that a check of their types loads none)."""


def teachers_of(zoo: Zoo, plan: Plan) -> Teachers:
    """The teachers of a plan, each loaded when it is asked for."""
    return {role: OnDemand(zoo.teacher, plan.get(role, [])) for role in Role}


@dataclass
class AbstractState(ABC):
    """What a method learns.

    Args:
        step: finished steps.
    """

    step: int
    progress: float = field(default=0.0, init=False)
    """The part of the run's budget that is used, 0 to 1, for schedules; the loop sets it before each step."""
    ranks: AbstractRanks = field(default=SERIAL_RANKS, init=False)
    """The processes that share the run; the loop sets them after `AbstractMethod.init`."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What training changes, by name: modules, optimisers, banks, recoveries; each has a ``state_dict``."""

    def to(self, device: torch.device) -> None:
        """Move the parts, in place. Optimisers follow their parameters: move before a checkpoint is taken over."""
        for part in self.parts().values():
            if not isinstance(part, torch.optim.Optimizer):
                part.to(device)

    def compile(self, device: torch.device) -> None:
        """Compile what a step computes most often (`dfml.compute.devices.compiled`); of methods that say so."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors and plain values (numbers, strings, lists, None), for a checkpoint."""
        return {"step": self.step} | {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint, in place."""
        self.step = state["step"]
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


@dataclass
class FixedState(AbstractState):
    """The state of a method that does not train: its learner."""

    learner: AbstractLearner

    def parts(self) -> dict[str, Any]:
        """The learner."""
        return {"learner": self.learner}


S = TypeVar("S", bound=AbstractState)


class AbstractMethod(ABC, Generic[S]):
    """A paper. Its constructor arguments are its keyword-only hyper-parameters; configuration is made of them."""

    requires: ClassVar[Capability]
    uses_data: bool = False
    trains: ClassVar[bool] = True
    """False for a baseline that is ready after `init`: no step is ever taken."""
    compiles: ClassVar[bool] = False
    """Whether its states have something to `AbstractState.compile`."""
    ships: str = "last"
    """Which iterate `learner` gives: ``last``, or ``ema-last`` for a moving average that ends there."""

    @abstractmethod
    def init(self, zoo: Zoo, rng: Rng) -> S:
        """Everything before the first step, from the zoo alone."""

    @abstractmethod
    def plan(self, state: S, zoo: Zoo, rng: Rng) -> Plan:
        """Which teachers the next step needs, and why."""

    @abstractmethod
    def step(self, state: S, teachers: Teachers, rng: Rng) -> Metrics:
        """One step: changes ``state`` in place, returns what to log. ``rng`` belongs to this step alone.

        A teacher may be loaded from the disk whenever it is asked for (`OnDemand`): keep those that are used several
        times, not all.
        """

    @abstractmethod
    def learner(self, state: S) -> AbstractLearner:
        """The learner to evaluate and ship: the moving average where the method keeps one."""

    def validate(self, state: S, rng: Rng) -> Metrics:
        """Pseudo-val accuracy (``pseudo_val`` in percent) on recovered classes that training does not use, if any."""
        return {}

    def recovered_sheet(self, state: S, teachers: list[Teacher], rng: Rng) -> list[Any]:
        """`Recovered` images for these teachers, without learning from them; empty if the method recovers none."""
        return []


class AbstractBaseline(AbstractMethod[FixedState]):
    """A method that is ready after `init`, which makes a `FixedState`."""

    trains: ClassVar[bool] = False

    def plan(self, state: FixedState, zoo: Zoo, rng: Rng) -> Plan:
        """No teachers."""
        return {}

    def step(self, state: FixedState, teachers: Teachers, rng: Rng) -> Metrics:
        """Nothing to do: `trains` is False."""
        return {}

    def learner(self, state: FixedState) -> AbstractLearner:
        """What `init` made."""
        return state.learner
