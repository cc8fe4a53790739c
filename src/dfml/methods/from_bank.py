"""What methods share that recover images into a bank and meta-train on its episodes alone."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from dfml.bounds import Amount, Count, Decay
from dfml.learners import AbstractLearner, Metrics
from dfml.methods.base import AbstractMethod, AbstractState, Role, StepReport
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered, RecoveryState, Visit, mean_terms
from dfml.training.bank import Bank
from dfml.training.meta_model import ModelOptions, build_meta_model, update_average
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.replay import ReplayOptions, replay
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher


@dataclass
class BankState(AbstractState):
    """The learner and its moving average, the recovery's state, the bank, and the optimiser."""

    current: AbstractLearner
    average: AbstractLearner
    recovery: RecoveryState
    bank: Bank
    optimiser: torch.optim.Optimizer
    validation: PseudoValidation
    zoo: Zoo
    inverted: list[str] = field(default_factory=list)
    """Models whose images the bank got, each once."""
    trained: int = 0
    """Steps that moved the learner."""
    kept = ("current", "average", "recovery", "bank", "optimiser", "validation")

    def state_dict(self) -> dict[str, Any]:
        """The parts, the models that were inverted, and how often the learner was trained."""
        return super().state_dict() | {"inverted": list(self.inverted), "trained": self.trained}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        super().load_state_dict(state)
        self.inverted, self.trained = list(state["inverted"]), state["trained"]


class AbstractFromBank(AbstractMethod[BankState]):
    """Recover, store, meta-train; a method says which models are visited, and when.

    Args:
        recovery: how images are made.
        model: learner and network.
        replay: episodes from the bank.
        teachers_per_step: visited teachers a step.
        images_per_class: recovered images per class and visit.
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        bank_capacity: images kept per class.
        average_decay: of the moving average that is shipped, per step; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.
    """

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        model: ModelOptions | None = None,
        replay: ReplayOptions | None = None,
        teachers_per_step: Amount = 1,
        images_per_class: Amount = 20,
        classes_per_visit: Amount = 5,
        bank_capacity: Amount = 400,
        average_decay: Decay = 0.9,
        validation_teachers: Count = 1,
        validation_episodes: Count = 40,
    ):
        self.recovery, self.model, self.replay = recovery, model or ModelOptions(), replay or ReplayOptions()
        self.teachers_per_step, self.images_per_class = teachers_per_step, images_per_class
        self.classes_per_visit, self.bank_capacity = classes_per_visit, bank_capacity
        self.average_decay = average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.uses_data = recovery.uses_data
        self.ships = "ema-last" if average_decay else "last"

    def requires(self) -> dict[Role, Capability]:
        """What the recovery needs."""
        return {Role.VISIT: self.recovery.requires()}

    def init(self, zoo: Zoo, rng: Rng) -> BankState:
        """A random learner, an empty bank, and the choice of validation teachers."""
        held_out = PseudoValidation(
            zoo,
            count=self.validation_teachers,
            images_per_class=self.images_per_class,
            needs=self.recovery.requires(),
            rng=rng,
        )
        classes = len(zoo.class_ids)
        self.replay.check(classes=classes - len(held_out.class_ids), capacity=self.bank_capacity)
        learner = build_meta_model(self.model, zoo.canvas, classes=classes, rng=rng).learner
        return BankState(
            step=0,
            current=learner,
            average=copy.deepcopy(learner),
            recovery=self.recovery.init(zoo.canvas, rng.at("recovery")),
            bank=Bank(classes=classes, capacity=self.bank_capacity, shape=zoo.canvas.shape),
            optimiser=torch.optim.Adam(learner.parameters(), lr=self.replay.lr, foreach=True),
            validation=held_out,
            zoo=zoo,
        )

    def _recover(self, state: BankState, visited: Sequence[Teacher], rng: Rng) -> StepReport:
        """Images of the visited models go to the bank."""
        start = time.perf_counter()
        visits = [
            Visit(t, state.validation.training_labels(t.card, self.classes_per_visit, rng.generator("classes", i)))
            for i, t in enumerate(visited)
        ]
        recovered = self.recovery.recover(state.recovery, visits, rng=rng.at("recover"), ranks=state.ranks)
        for teacher, shown in zip(visited, recovered, strict=True):
            name = teacher.card.id
            state.bank.add(shown.images, state.zoo.rows(name)[shown.labels], state.zoo.number_of[name])
            state.inverted += [] if name in state.inverted else [name]
        images, seconds = sum(len(r.images) for r in recovered), time.perf_counter() - start
        return StepReport(mean_terms(recovered), {"inverted": float(len(state.inverted))}, images, seconds)

    def _meta_train(self, state: BankState, rng: Rng) -> Metrics:
        """Episodes from the bank, mixed across models; nothing while it is too small for one."""
        replayed, last = replay(
            state.current, state.bank, state.optimiser, self.replay, rng=rng.at("replay"), ranks=state.ranks
        )
        if last is not None:
            update_average(state.average, state.current, decay=self.average_decay, step=state.trained)
            state.trained += 1
        return replayed

    def validate(self, state: BankState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        if not state.trained:
            return {}
        shown = partial(self.recovery.recover, state.recovery)
        return state.validation.accuracy(self.learner(state), shown, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: BankState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the recovery shows of these teachers now."""
        return self.recovery.show(state.recovery, teachers, self.images_per_class, rng)
