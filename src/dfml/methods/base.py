"""The contract of a method: one paper, one final class."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

import torch

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.errors import InputError
from dfml.learners.base import AbstractLearner, Metrics
from dfml.randomness import Rng
from dfml.recovery.base import Recovered, UsesData
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import OnDemand, Teacher

FIRST_PAUSE = 4  # steps in which a teacher that did not answer is left alone


class Role(Enum):
    """Why a method needs a teacher."""

    START = "to start from its network"
    VISIT = "to recover images from it"
    REVIEW = "to answer on its images in the bank"
    ANSWER = "to answer on images of any teacher"


Plan = dict[Role, list[str]]
"""The ids of the teachers that a step needs, in order; a role that is absent has none."""
Teachers = Mapping[Role, OnDemand]
"""The teachers of a plan, loaded when asked for (so that a check of their types loads none)."""


def teachers_of(zoo: Zoo, plan: Plan) -> Teachers:
    """The teachers of a plan, each loaded when it is asked for."""
    return {role: OnDemand(zoo.teacher, plan.get(role, []), lambda i: zoo.entry(i).class_ids) for role in Role}


@dataclass
class StepReport:
    """What a step did.

    Args:
        terms: un-weighted losses, by name.
        scores: whatever else is worth a curve: accuracies, ratios, counts.
        images: recovered images.
        recover_seconds: of recovering them.
        queries: images that teachers were asked about; the loop counts them.
    """

    terms: Metrics = field(default_factory=dict)
    scores: Metrics = field(default_factory=dict)
    images: int = 0
    recover_seconds: float = 0.0
    queries: int = 0

    def metrics(self) -> Metrics:
        """All of it, flat, for a line of metrics."""
        counts = {"images": self.images, "recover_seconds": self.recover_seconds, "queries": self.queries}
        return self.terms | self.scores | {name: float(value) for name, value in counts.items()}


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
    notes: tuple[str, ...] = field(default=(), init=False)
    """What `AbstractMethod.init` left out or cut, in plain sentences, for whoever starts the run."""
    aside: dict[str, str] = field(default_factory=dict, init=False)
    """Teachers that are not asked now, with the reason: their answers were NaN or infinite, or did not come."""
    pauses: dict[str, list[int]] = field(default_factory=dict, init=False)
    """Of teachers whose answers did not come: the step after which each is asked again, and steps until then."""

    def pause(self, teacher: str, reason: str) -> int:
        """Set a teacher aside for some steps, for twice as many where it has just come back; says for how many."""
        until, length = self.pauses.get(teacher, (-1, 0))
        length = 2 * length if self.step <= until + length else FIRST_PAUSE
        self.aside[teacher], self.pauses[teacher] = reason, [self.step + length, length]
        return length

    def bring_back(self, *, at_once: bool = False) -> list[str]:
        """Ask those again whose pause is over, or all that pause; says whom."""
        back = [i for i, (until, _) in self.pauses.items() if i in self.aside and (at_once or self.step >= until)]
        for teacher in back:
            del self.aside[teacher]
        return back

    def sound(self, ids: Iterable[str]) -> list[str]:
        """Those teachers that are not set aside.

        Raises:
            InputError: none is left.
        """
        ids = list(ids)
        left = [name for name in ids if name not in self.aside]
        if ids and not left:
            raise InputError(
                f"all {len(ids)} teachers are set aside: {'; '.join(f'{k}: {v}' for k, v in self.aside.items())}",
                "a teacher whose answers come and are numbers",
                "see whether the models work on images in [0, 1], and whether their input_spec is right; where servers "
                "were away, go on with --resume when they are back",
            )
        return left

    kept: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that training changes: modules, optimisers, banks, recoveries; a checkpoint holds them."""

    def parts(self) -> dict[str, Any]:
        """What training changes, by name; each has a ``state_dict``."""
        return {name: getattr(self, name) for name in self.kept}

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
        paused = {name: list(values) for name, values in self.pauses.items()}
        return {"step": self.step, "aside": dict(self.aside), "pauses": paused} | {
            name: part.state_dict() for name, part in self.parts().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint, in place."""
        self.step = state["step"]
        self.aside = dict(state.get("aside", {}))
        self.pauses = {name: list(values) for name, values in state.get("pauses", {}).items()}
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


@dataclass
class FixedState(AbstractState):
    """The state of a method that does not train: its learner."""

    learner: AbstractLearner
    kept = ("learner",)


def check_past_warm_up(steps: int, warmup_steps: int) -> None:
    """Refuse the learner of a run that ended in its warm-up, so that it is still random.

    Raises:
        InputError: it says so.
    """
    if steps <= warmup_steps:
        raise InputError(
            f"a run of {steps} steps, all of them warm-up of the generator",
            f"more than {warmup_steps} steps, so that the learner has learned something",
            "go on with more minutes or steps, or lower warmup_steps",
        )


S = TypeVar("S", bound=AbstractState)


class AbstractMethod(ABC, Generic[S]):
    """A paper. Its constructor arguments are its keyword-only hyper-parameters; configuration is made of them."""

    uses_data: UsesData = False
    trains: ClassVar[bool] = True
    """False for a baseline that is ready after `init`: no step is ever taken."""
    least_steps: ClassVar[int] = 0
    """Whoever trains for fewer is told in the end that they are far too few; 0 where that is not known."""
    grows: ClassVar[bool] = False
    """Whether a run may go on with a zoo that more models have joined (`grow`)."""
    compiles: ClassVar[bool] = False
    """Whether its states have something to `AbstractState.compile`."""
    ships: str = "last"
    """Which iterate `learner` gives: ``last``, or ``ema-last`` for a moving average that ends there."""

    @abstractmethod
    def requires(self) -> dict[Role, Capability]:
        """What teachers must be able to give, with these hyper-parameters, in each role that the method has."""

    @abstractmethod
    def init(self, zoo: Zoo, rng: Rng) -> S:
        """Everything before the first step, from the zoo alone; images are recovered on ``zoo.canvas``."""

    def grow(self, state: S, zoo: Zoo, ids: list[str], rng: Rng) -> None:
        """Take models into account that joined the zoo; of methods that say so.

        Args:
            state: of the zoo as it was, changed in place to what `init` could not know then.
            zoo: all of it now.
            ids: that joined it.
            rng: of this call alone.
        """
        raise NotImplementedError

    @abstractmethod
    def plan(self, state: S, zoo: Zoo, rng: Rng) -> Plan:
        """Which teachers the next step needs, and why."""

    @abstractmethod
    def step(self, state: S, teachers: Teachers, rng: Rng) -> StepReport:
        """One step: changes ``state`` in place, returns what it did. ``rng`` belongs to this step alone.

        A teacher may be loaded from the disk whenever it is asked for (`OnDemand`): keep those that are used several
        times, not all.
        """

    @abstractmethod
    def learner(self, state: S) -> AbstractLearner:
        """The learner to evaluate and ship: the moving average where the method keeps one."""

    def validate(self, state: S, rng: Rng) -> Metrics:
        """Pseudo-val accuracy (``pseudo_val`` in percent) on recovered classes that training does not use, if any."""
        return {}

    def recovered_sheet(self, state: S, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """Images for these teachers, without learning from them; empty if the method recovers none."""
        return []


class AbstractBaseline(AbstractMethod[FixedState]):
    """A method that is ready after `init`, which makes a `FixedState`."""

    trains: ClassVar[bool] = False

    def plan(self, state: FixedState, zoo: Zoo, rng: Rng) -> Plan:
        """No teachers."""
        return {}

    def step(self, state: FixedState, teachers: Teachers, rng: Rng) -> StepReport:
        """Nothing to do: `trains` is False."""
        return StepReport()

    def learner(self, state: FixedState) -> AbstractLearner:
        """What `init` made."""
        return state.learner
