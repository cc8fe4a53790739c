"""TEAPOT: task memory against a shifting stream of recovered tasks, and a learned choice of the models to trust."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from dfml.bounds import Amount, Count, Decay, Share, StepSize
from dfml.data import load_data
from dfml.episode import Episode, sample_indices
from dfml.errors import InputError, NotFinite
from dfml.learners import AbstractLearner, FrozenLearner, Metrics
from dfml.learners.base import percent_right
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered, RecoveryState, Visit, mean_terms
from dfml.training.bank import Bank
from dfml.training.meta_model import ModelOptions, build_meta_model, update_average
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.replay import ReplayOptions, summed_gradients
from dfml.training.selection import SelectionPolicy
from dfml.training.tasks import Tasks, distilled_tasks, memory_tasks, task_loss
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher


@dataclass
class TeapotState(AbstractState):
    """The learner and its moving average, the task memory, the policy, and what rewards it."""

    learner: AbstractLearner
    average: AbstractLearner
    optimiser: torch.optim.Optimizer
    policy: SelectionPolicy
    bank: Bank
    validation: PseudoValidation
    zoo: Zoo
    reward_rng: Rng
    real: list[Episode]
    given: RecoveryState | None
    kept = ("learner", "average", "optimiser", "policy", "bank", "validation")

    @property
    def candidates(self) -> list[int]:
        """Numbers of the models that may be visited."""
        return [self.zoo.number_of[name] for name in self.sound(self.validation.visited_ids)]

    def trust(self) -> dict[str, float]:
        """Each model that may be visited with its probability to be drawn first."""
        candidates = self.candidates
        chances = self.policy.probabilities(candidates).tolist()
        return {self.zoo.ids[number]: chance for number, chance in zip(candidates, chances, strict=True)}


class TEAPOT(AbstractMethod[TeapotState]):
    """Hu, Wei, Shen, Wang, Wu, Yuan, Tao: "Task-Distributionally Robust Data-Free Meta-Learning", TPAMI 2025.

    https://arxiv.org/abs/2311.14756

    A generator is made anew for each visit and gives back a task of its teacher, which the learner distils. Between
    such tasks it is trained on its memory: on combinations of remembered classes, and on interpolations, whose images
    have features mixed from two remembered tasks, so that a shift of the recovered tasks is less of one. Which models
    are visited is drawn from one logit a model, learned by policy gradient from the accuracy on validation episodes:
    models that mislead the learner are drawn less and less.

    *Deviations from the paper*: unless ``data`` is given the reward is data-free: the accuracy on episodes of images
    recovered from held-out teachers. Those may be bad models themselves, so several are held out where a zoo is not to
    be trusted. The reward is compared with a moving average of rewards, which follows the learner. The teacher's
    probabilities are the labels of its task in the support, too: a prototype counts an image as much as it is likely
    to be of the class. The result is a moving average. The paper's full text was not at hand: its loop is
    reconstructed from the abstract and the published code.

    *Deviations from the published code*: each task is distilled from its own teacher, not all from the last one; a
    draw without replacement has its exact likelihood; the reward of a choice is credited to that choice; real
    validation images are used only where ``data`` says so, and a result tells it; interpolation is trained by the
    learner's own way of adapting, not by prototypes whatever the learner. One generator gives support and query, which
    are divided anew each round, and the generators of a step start from the same random weights; the last iterate of
    a generator is taken. Images are shifted and mirrored per sample. Losses of a meta-batch are summed, which Adam
    does not see. One round is an update on the recovered tasks and one on the memory.

    Args:
        recovery: makes images; it learns nothing from one step to the next.
        model: learner and network: ``protonet``, ``maml`` or ``anil``.
        replay: the memory's episodes and the rounds of a step: until the reward has not risen for ``patience`` of them.
        teachers_per_step: visited teachers a step.
        images_per_class: recovered images per class and visit.
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        interpolated: share of the memory's tasks that are interpolations; the others are combinations.
        selection: by the learned ``policy``, or ``uniform``.
        policy_lr: Adam's step size on the logits of the policy.
        data: real images whose validation classes give the rewards; None is data-free.
        reward_episodes: of one reading of the reward, always the same ones.
        bank_capacity: images kept per class (400 in the published code).
        flip: mirror images in training; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
        average_decay: of the moving average that is evaluated and shipped, per step; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.

    Raises:
        InputError: no rounds, a task that a visit cannot fill, or a policy that nothing rewards; from `init` a learner
            that episodes do not move.
    """

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        model: ModelOptions | None = None,
        replay: ReplayOptions | None = None,
        teachers_per_step: Amount = 4,
        images_per_class: Amount = 20,
        classes_per_visit: Amount = 5,
        interpolated: Share = 0.5,
        selection: Literal["policy", "uniform"] = "policy",
        policy_lr: StepSize = 0.1,
        data: str | None = None,
        reward_episodes: Amount = 4,
        bank_capacity: Amount = 400,
        flip: bool | None = None,
        average_decay: Decay = 0.9,
        validation_teachers: Count = 1,
        validation_episodes: Count = 40,
    ):
        self.recovery, self.model, self.replay = recovery, model or ModelOptions(), replay or ReplayOptions(episodes=4)
        self.teachers_per_step, self.images_per_class = teachers_per_step, images_per_class
        self.classes_per_visit, self.interpolated = classes_per_visit, interpolated
        self.selection, self.policy_lr, self.data, self.reward_episodes = selection, policy_lr, data, reward_episodes
        self.bank_capacity, self.flip, self.average_decay = bank_capacity, flip is not False, average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.uses_data = True if data is not None else recovery.uses_data
        self.ships = "ema-last" if average_decay else "last"
        self._check()

    def _check(self) -> None:
        task = self.replay.shot + self.replay.queries
        if not self.replay.patience or task > self.images_per_class:
            raise InputError(
                f"replay.patience {self.replay.patience}, and {self.images_per_class} recovered images per class for "
                f"{task} of a task",
                "a patience of 1 at least, and as many images as shots and queries",
                "raise replay.patience or images_per_class, or lower replay.shot or replay.queries",
            )
        if self.selection == "policy" and self.data is None and not self.validation_teachers:
            raise InputError(
                "selection by a policy without validation teachers and without data",
                "something that rewards a choice",
                "set validation_teachers to 1 or more, give data, or set selection to uniform",
            )

    def requires(self) -> dict[Role, Capability]:
        """Logits to distil, and what the recovery needs."""
        return {Role.VISIT: self.recovery.requires() | Capability.LOGITS}

    def init(self, zoo: Zoo, rng: Rng) -> TeapotState:
        """A random learner, an empty memory, a policy without preferences, and what rewards it."""
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
        if isinstance(learner, FrozenLearner):
            raise InputError(
                f"learner {self.model.learner}", "one that episodes train", "use learner protonet, maml or anil"
            )
        return TeapotState(
            step=0,
            learner=learner,
            average=copy.deepcopy(learner),
            optimiser=torch.optim.Adam(learner.parameters(), lr=self.replay.lr, foreach=True),
            policy=SelectionPolicy(len(zoo), lr=self.policy_lr),
            bank=Bank(classes=classes, capacity=self.bank_capacity, shape=zoo.canvas.shape),
            validation=held_out,
            zoo=zoo,
            reward_rng=rng.at("reward"),
            real=self._real_episodes(zoo, rng.at("real")),
            given=self.recovery.init(zoo.canvas, rng.at("recovery")) if self.recovery.uses_data else None,
        )

    def plan(self, state: TeapotState, zoo: Zoo, rng: Rng) -> Plan:
        """The teachers to visit, in the order in which the policy drew them."""
        drawn = state.policy.draw(state.candidates, self.teachers_per_step, rng.generator("select"))
        return {Role.VISIT: [zoo.ids[number] for number in drawn]}

    def step(self, state: TeapotState, teachers: Teachers, rng: Rng) -> StepReport:
        """Recover the tasks of some teachers, learn from them and from the memory, reward the choice."""
        visited = list(teachers[Role.VISIT])

        # Generate: a fresh generator for each visit; what it shows is remembered under its classes.
        start, shown_by = time.perf_counter(), self._recoverer(state, rng)
        recovered = shown_by(
            [self._visit(state, teacher, rng.generator("classes", i)) for i, teacher in enumerate(visited)],
            rng=rng.at("recover"),
            ranks=state.ranks,
        )
        images = sum(len(r.images) for r in recovered)
        report = StepReport(mean_terms(recovered), {}, images, recover_seconds=time.perf_counter() - start)
        for teacher, shown in zip(visited, recovered, strict=True):
            name = teacher.card.id
            state.bank.add(shown.images, state.zoo.rows(name)[shown.labels], state.zoo.number_of[name])

        # Learn: each round from the new tasks, then from the memory, until that raises the reward no more.
        rewards: list[float] = []
        met: list[Metrics] = []
        waited = 0
        while waited < self.replay.patience and (self.replay.limit is None or len(met) < self.replay.limit):
            round_rng = rng.at("round", len(met))
            new = distilled_tasks(visited, recovered, self.replay, flip=self.flip, rng=round_rng)
            old = memory_tasks(state.bank, self.replay, interpolated=self.interpolated, flip=self.flip, rng=round_rng)
            distilled, remembered = self._update(state, new), self._update(state, old)
            met.append(_named("distillation", distilled) | _named("memory", remembered))
            reward = self._reward(state, shown_by)
            waited = waited + 1 if reward is None or reward <= max(rewards, default=-1.0) else 0
            rewards += [] if reward is None else [reward]

        # Select: the mean reward of these rounds makes the drawn models likelier, or less likely.
        if rewards and self.selection == "policy":
            drawn = [state.zoo.number_of[name] for name in teachers[Role.VISIT].ids]
            report.scores["advantage"] = state.policy.learn(drawn, state.candidates, fmean(rewards))
        report.scores |= {"rounds": float(len(met))} | ({"reward": fmean(rewards)} if rewards else {})
        report.terms |= {n: fmean(m[n] for m in met if n in m) for n in sorted({n for m in met for n in m})}
        update_average(state.average, state.learner, decay=self.average_decay, step=state.step)
        state.step += 1
        return report

    def _recoverer(self, state: TeapotState, rng: Rng) -> Callable[..., list[Recovered]]:
        """`AbstractRecovery.recover` with a fresh generator, from which each visit adapts its own copy."""
        return partial(self.recovery.recover, self._fresh(state, rng), learn=False)

    def _fresh(self, state: TeapotState, rng: Rng) -> RecoveryState:
        """As before the first visit; one that shows images given to it has read them once."""
        fresh = state.given or self.recovery.init(state.zoo.canvas, rng.at("generator"))
        fresh.to(state.bank.device)
        return fresh

    def _visit(self, state: TeapotState, teacher: Teacher, generator: torch.Generator) -> Visit:
        return Visit(teacher, state.validation.training_labels(teacher.card, self.classes_per_visit, generator))

    def _update(self, state: TeapotState, tasks: Tasks) -> Metrics:
        """One step on the tasks' losses; each is made by the process that plays it."""
        if not tasks:
            return {}

        def losses_of(group: list[int]) -> tuple[Tensor, Tensor]:
            losses, accuracies = zip(*(task_loss(state.learner, *tasks[i]()) for i in group), strict=True)
            return torch.stack(losses), torch.stack(accuracies)

        state.optimiser.zero_grad()
        met = summed_gradients(state.learner, losses_of, len(tasks), state.ranks)
        state.optimiser.step()
        return met

    def _real_episodes(self, zoo: Zoo, rng: Rng) -> list[Episode]:
        """Of validation classes, always the same ones."""
        if self.data is None:
            return []
        images = load_data(self.data, size=zoo.canvas.size).val
        kind = {"way": min(self.replay.way, len(images.class_names)), "shots": self.replay.shot}
        return [
            images.episode(
                sample_indices(images.members, **kind, queries=self.replay.queries, generator=rng.generator(i))
            )
            for i in range(self.reward_episodes)
        ]

    def _reward(self, state: TeapotState, shown_by: Callable[..., list[Recovered]]) -> float | None:
        """Accuracy in percent on the real episodes, or on those of held-out teachers; None without either."""
        if state.real:
            return fmean(_accuracy(state.learner, episode, state.bank.device) for episode in state.real)
        try:
            met = state.validation.accuracy(
                state.learner, shown_by, episodes=self.reward_episodes, rng=state.reward_rng
            )
        except NotFinite:  # of the held-out teachers: nobody visited is to blame
            return None
        return met.get("pseudo_val")

    def learner(self, state: TeapotState) -> AbstractLearner:
        """The moving average, or the last iterate without one."""
        return state.average if self.average_decay else state.learner

    def validate(self, state: TeapotState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        shown = self._recoverer(state, rng)
        return state.validation.accuracy(self.learner(state), shown, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: TeapotState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What fresh generators show of these teachers."""
        return self.recovery.show(self._fresh(state, rng), teachers, self.images_per_class, rng)


def _accuracy(learner: AbstractLearner, episode: Episode, device: torch.device) -> float:
    predictor = learner.adapt(episode.support_x.to(device), episode.support_y.to(device))
    return float(percent_right(predictor(episode.query_x.to(device)).cpu(), episode.query_y))


def _named(name: str, met: Metrics) -> Metrics:
    return {name: met["loss"], f"{name}_accuracy": met["accuracy"]} if met else {}
