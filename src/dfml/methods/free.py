"""FREE: faster inversion via meta-generator, better generalisation via meta-learner."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from dfml.bounds import Amount, Count, Decay, StepSize
from dfml.compute.devices import compiled, send
from dfml.functional.augmentation import shift_and_flip
from dfml.learners import AbstractLearner, Metrics
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers, check_past_warm_up
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered, RecoveryState, Visit, mean_terms
from dfml.training.alignment import Loss, align, alignment_ratio
from dfml.training.bank import Bank
from dfml.training.distillation import Logits, distillation_losses, meta_logits
from dfml.training.meta_model import MetaModel, ModelOptions, build_meta_model, update_average
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.replay import ReplayOptions, replay
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

RATIO_EVERY = 25  # steps between two measurements of what alignment adds


@dataclass
class FreeState(AbstractState):
    """The meta-model and its moving average, the meta-generator, the bank, and the optimisers."""

    model: MetaModel
    average: MetaModel
    recovery: RecoveryState
    bank: Bank
    outer: torch.optim.Optimizer
    replay: torch.optim.Optimizer
    validation: PseudoValidation
    zoo: Zoo
    logits: Logits = meta_logits
    kept = ("model", "average", "recovery", "bank", "outer", "replay", "validation")

    def compile(self, device: torch.device) -> None:
        """The meta-model's answers in a step of alignment."""
        self.logits = compiled(meta_logits, device)

    def rows(self, teacher: Teacher) -> Tensor:
        """Rows of the class head and of the bank for a teacher's outputs, in their order."""
        return send(self.zoo.rows(teacher.card.id), self.bank.device)


class FREE(AbstractMethod[FreeState]):
    """Wei, Hu, Wang, Shen, Yuan, Tao: "FREE: Faster and Better Data-Free Meta-Learning", CVPR 2024.

    https://arxiv.org/abs/2405.00984

    One meta-generator adapts to any teacher in five steps and gives back images of its classes. The meta-learner
    takes one distillation step on each visited teacher in turn and moves along the total displacement, which aligns
    the teachers' gradients implicitly. All images go to a bank, and episodes mixed across teachers are replayed.

    *Deviations from the paper*: the adversarial student is the current learner with the teacher's rows of a class
    head, and starts after the warm-up; a class head (one row per zoo class) replaces the shared 5-way head, on which
    output c means another class for every teacher; alignment also reviews earlier images from the bank
    (``rounds`` - 1 further times a step), because a recovery costs far more than a distillation step; the result is a
    moving average; a validation teacher and its classes are held out to show progress.

    *Deviations from the published code*: true KL in distillation and in the adversarial term, with gradients through
    both; the BatchNorm term exists; images of every teacher are stored; one meta-optimiser persists; images and
    meta-gradient are taken at the adapted parameters; latent codes move; augmentation per sample; bytes are rounded,
    in memory; SGD fast steps in random order and an outer optimiser of its own; no choice of checkpoint on test.
    `PublishedFREE` is a copy that does what the published code does.

    Args:
        recovery: the meta-generator.
        model: learner and network.
        replay: episodes from the bank.
        teachers_per_step: visited teachers a step (4 in the published code).
        images_per_class: recovered images per class and visit (20 in the published code).
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        warmup_steps: steps that train the generator alone (19 in the published code).
        rounds: alignment rounds a step; the first on the fresh images, the others on images from the bank.
        distil_on: a teacher answers on its ``own`` images, or on images of all teachers from the ``bank``.
        alignment: ``sequential`` steps over teachers, or the ``average`` of the same gradients at one point.
        fast_lr: step size of the sequential steps.
        outer_lr: Adam's step size along the displacement.
        bank_capacity: images kept per class (400 in the published code), as far as the memory of a `Bank` goes.
        flip: mirror images when distilling; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
        average_decay: of the moving average that is evaluated and shipped; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.
    """

    compiles = True

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        model: ModelOptions | None = None,
        replay: ReplayOptions | None = None,
        teachers_per_step: Amount = 4,
        images_per_class: Amount = 20,
        classes_per_visit: Amount = 5,
        warmup_steps: Count = 19,
        rounds: Amount = 1,
        distil_on: Literal["own", "bank"] = "own",
        alignment: Literal["sequential", "average"] = "sequential",
        fast_lr: StepSize = 0.03,
        outer_lr: StepSize = 3e-3,
        bank_capacity: Amount = 400,
        flip: bool | None = None,
        average_decay: Decay = 0.98,
        validation_teachers: Count = 1,
        validation_episodes: Count = 40,
    ):
        self.recovery, self.model, self.replay = recovery, model or ModelOptions(), replay or ReplayOptions()
        self.teachers_per_step, self.images_per_class = teachers_per_step, images_per_class
        self.classes_per_visit = classes_per_visit
        self.warmup_steps, self.rounds, self.distil_on, self.alignment = warmup_steps, rounds, distil_on, alignment
        self.fast_lr, self.outer_lr = fast_lr, outer_lr
        self.bank_capacity, self.flip, self.average_decay = bank_capacity, flip is not False, average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.uses_data = recovery.uses_data
        self.ships = "ema-last" if average_decay else "last"

    def requires(self) -> dict[Role, Capability]:
        """Logits to distil, and what the recovery needs."""
        return {Role.VISIT: self.recovery.requires() | Capability.LOGITS, Role.REVIEW: Capability.LOGITS}

    def init(self, zoo: Zoo, rng: Rng) -> FreeState:
        """A random meta-model, an empty bank, and the choice of validation teachers."""
        held_out = PseudoValidation(
            zoo,
            count=self.validation_teachers,
            images_per_class=self.images_per_class,
            needs=self.recovery.requires(),
            rng=rng,
        )
        classes = len(zoo.class_ids)
        self.replay.check(classes=classes - len(held_out.class_ids), capacity=self.bank_capacity)
        model = build_meta_model(self.model, zoo.canvas, classes=classes, rng=rng)
        return FreeState(
            step=0,
            model=model,
            average=copy.deepcopy(model),
            recovery=self.recovery.init(zoo.canvas, rng.at("recovery")),
            bank=Bank(classes=classes, capacity=self.bank_capacity, shape=zoo.canvas.shape),
            outer=torch.optim.Adam(model.distilled_parameters().values(), lr=self.outer_lr, foreach=True),
            replay=torch.optim.Adam(model.learner.parameters(), lr=self.replay.lr, foreach=True),
            validation=held_out,
            zoo=zoo,
        )

    def plan(self, state: FreeState, zoo: Zoo, rng: Rng) -> Plan:
        """The teachers to visit and, after the warm-up, those to review, as many in each further round."""
        generator, training = rng.generator("select"), state.sound(state.validation.visited_ids)
        visited = _draw(training, self.teachers_per_step, generator)
        if state.step < self.warmup_steps:
            return {Role.VISIT: visited}
        known = training
        if self.distil_on == "own":
            gave = state.bank.givers()
            known = [i for i in training if i in visited or zoo.number_of[i] in gave]
        reviewed = [name for _ in range(self.rounds - 1) for name in _draw(known, self.teachers_per_step, generator)]
        return {Role.VISIT: visited, Role.REVIEW: reviewed}

    def step(self, state: FreeState, teachers: Teachers, rng: Rng) -> StepReport:
        """Recover from some teachers, align the meta-model with them one after the other, replay the bank."""
        visited, reviewed = list(teachers[Role.VISIT]), teachers[Role.REVIEW]
        warming_up = state.step < self.warmup_steps

        # Faster inversion: adapt the meta-generator to each teacher and keep what it shows.
        start = time.perf_counter()
        drawn = [rng.generator("classes", i) for i in range(len(visited))]
        labels = [
            state.validation.training_labels(teacher.card, self.classes_per_visit, generator)
            for teacher, generator in zip(visited, drawn, strict=True)
        ]
        students = [None if warming_up else partial(state.model, rows=state.rows(teacher)) for teacher in visited]
        known = [teachers[Role.VISIT].knowing(t.card.class_ids, but=t.card.id) for t in visited]
        visits = [Visit(*visit) for visit in zip(visited, labels, students, known, strict=True)]
        recovered = self.recovery.recover(state.recovery, visits, rng=rng.at("recover"), ranks=state.ranks)
        images = sum(len(r.images) for r in recovered)
        report = StepReport(mean_terms(recovered), {}, images, recover_seconds=time.perf_counter() - start)
        report.scores["student"] = float(not warming_up)  # 0: the adversarial term was skipped
        if not warming_up:
            for teacher, shown in zip(visited, recovered, strict=True):
                name = teacher.card.id
                state.bank.add(shown.images, state.zoo.rows(name)[shown.labels], state.zoo.number_of[name])

            # Better generalisation: sequential steps over the teachers, Reptile along the displacement.
            each = len(reviewed) // max(1, self.rounds - 1)
            groups = [visited, *(reviewed[r * each : (r + 1) * each] for r in range(self.rounds - 1))]
            for r, group in enumerate(groups):
                losses = self._losses(state, group, recovered if r == 0 else None, rng.at("tasks", r))
                if r == 0 and state.step % RATIO_EVERY == 0:
                    report.scores["alignment_ratio"] = alignment_ratio(state.model, losses, lr=self.fast_lr)
                if losses:
                    order = rng.generator("order", r)
                    met = align(state.model, losses, state.outer, kind=self.alignment, lr=self.fast_lr, generator=order)
            report.terms["distillation"] = float(met)

            # Episodes mixed across teachers.
            replayed, _ = replay(
                state.model.learner, state.bank, state.replay, self.replay, rng=rng.at("replay"), ranks=state.ranks
            )
            report.scores |= replayed
            update_average(state.average, state.model, decay=self.average_decay, step=state.step - self.warmup_steps)
        state.step += 1
        return report

    def _losses(
        self, state: FreeState, group: Sequence[Teacher], fresh: list[Recovered] | None, rng: Rng
    ) -> list[Loss]:
        """A distillation loss for each teacher, on its fresh images or on images from the bank."""
        questions = []
        for i, teacher in enumerate(group):
            own = state.zoo.number_of[teacher.card.id]
            count = self.images_per_class * min(len(teacher.card.class_ids), self.classes_per_visit)
            generator, rows = rng.generator("images", i), state.rows(teacher)
            if self.distil_on == "bank":
                images = state.bank.sample(count, generator)
            elif fresh is not None:
                images = fresh[i].images
            else:
                images, _ = state.bank.of_teacher(own, rows, count, generator)
            if len(images) >= 2:  # else overwritten by other teachers of the same classes
                questions.append((teacher, shift_and_flip(images, rng.generator("augment", i), flip=self.flip), rows))
        return distillation_losses(state.model, questions, state.ranks, logits=state.logits)

    def learner(self, state: FreeState) -> AbstractLearner:
        """The moving average, or the last iterate without one.

        Raises:
            InputError: the run ended in its warm-up, so that the learner is still random.
        """
        check_past_warm_up(state.step, self.warmup_steps)
        return (state.average if self.average_decay else state.model).learner

    def validate(self, state: FreeState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        if state.step <= self.warmup_steps:
            return {}
        shown = partial(self.recovery.recover, state.recovery)
        return state.validation.accuracy(self.learner(state), shown, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: FreeState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the meta-generator shows of these teachers now."""
        return self.recovery.show(state.recovery, teachers, self.images_per_class, rng)


def _draw(ids: list[str], count: int, generator: torch.Generator) -> list[str]:
    return [ids[i] for i in torch.randperm(len(ids), generator=generator)[:count].tolist()]
