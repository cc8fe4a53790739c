"""TGR: task groupings regularization."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from dfml.bounds import Amount, Count, Decay, StepSize
from dfml.compute.devices import compiled, send
from dfml.functional.augmentation import shift_and_flip
from dfml.learners import AbstractLearner, Metrics
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered, RecoveryState, Visit, mean_terms
from dfml.training.alignment import align, alignment_ratio
from dfml.training.bank import Bank
from dfml.training.distillation import Logits, Question, imitation_losses, meta_logits
from dfml.training.grouping import Grouping, probe_network
from dfml.training.meta_model import MetaModel, ModelOptions, build_meta_model, update_average
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.replay import ReplayOptions, replay
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

RENEW = 10  # steps between two of which one visits teachers that are not embedded, in a zoo too large to embed whole
REGROUP = 25  # steps after which groups are formed anew: embeddings follow the visits
RATIO_EVERY = 25  # steps between two measurements of what the regularisation adds


@dataclass
class TGRState(AbstractState):
    """The meta-model and its moving average, what is known of the teachers, the bank, and the optimisers."""

    model: MetaModel
    average: MetaModel
    grouping: Grouping
    recovery: RecoveryState
    bank: Bank
    outer: torch.optim.Optimizer
    replay: torch.optim.Optimizer
    validation: PseudoValidation
    zoo: Zoo
    logits: Logits = meta_logits
    kept = ("model", "average", "grouping", "recovery", "bank", "outer", "replay", "validation")

    def compile(self, device: torch.device) -> None:
        """The meta-model's answers in a step."""
        self.logits = compiled(meta_logits, device)


class TGR(AbstractMethod[TGRState]):
    """Wei, Hu, Shen, Wang, Li, Yuan, Tao: "Task Groupings Regularization: Data-Free Meta-Learning with Heterogeneous
    Pre-trained Models", ICML 2024.

    https://arxiv.org/abs/2405.16560

    Models that were trained for different things pull a meta-learner in different directions. Every model is embedded
    by the Fisher information that a probe has on its recovered images, and models that are *unlike* each other form a
    group. Within a group the variance of their gradients is penalised, so that the learner goes where all of them gain.

    The paper's text was not at hand: this follows its abstract and its authors' code, and what is said of the paper
    below is said of these two.

    *Deviations from the paper*: the probe is a network of the zoo, or a random one, in the place of a ResNet-34 trained
    on ImageNet, whose data the zoo does not have; Fisher information is averaged over each filter, as Task2Vec does, so
    that a model is a few kilobytes; models are embedded on the images of their visits, as they are visited, and a visit
    counts half (not once, before training, on 3,000 images of their own); any recovery serves (not a fresh generator
    trained for 200 steps); a class head (one row per zoo class) replaces the shared 5-way head; ``rounds`` - 1 further
    rounds a step ask the group about earlier images of the bank; the result is a moving average; a validation teacher
    and its classes are held out to show progress.

    *Deviations from the published code*: all models are grouped, not the first 100; the displacement is a constant of
    the gradient, so that the penalty is not doubled; true KL beside the cross-entropy; gradients are squared image by
    image, not in the mean of a batch, with BatchNorm in eval mode, and labels belong to a head of the task, not to
    ImageNet's; no teacher twice in a step, and a group is drawn as often as its size says; optimisers of their own for
    distillation and replay; augmentation per sample; bytes are rounded, in memory; no choice of checkpoint on test.

    Args:
        recovery: how images are made.
        model: learner and network (MAML in the paper).
        replay: episodes from the bank (16 a meta-batch and a patience of 4 in the published code).
        teachers_per_step: visited teachers a step, of one group (4 in the published code).
        images_per_class: recovered images per class and visit (30 in the published code).
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        groups: at most; fewer where a group would have fewer teachers than a step visits (5 in the published code).
        embedded: teachers that are compared; of a larger zoo the newest, and every tenth step visits others.
        probe: whose Fisher information is taken: an architecture (random weights) or ``teacher:ID``; None copies the
            first teacher of dfml's own make, or is a random Conv4.
        displacement: step that takes each teacher's parameters away from the mean gradient (0.001 in the published
            code).
        rounds: of regularised steps a step; the first on the fresh images, the others on images from the bank.
        outer_lr: Adam's step size along the mean of the displaced gradients (0.001 in the published code).
        bank_capacity: images kept per class, as far as the memory of a `Bank` goes.
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
        images_per_class: Amount = 30,
        classes_per_visit: Amount = 5,
        groups: Amount = 5,
        embedded: Amount = 200,
        probe: str | None = None,
        displacement: StepSize = 1e-3,
        rounds: Amount = 1,
        outer_lr: StepSize = 1e-3,
        bank_capacity: Amount = 600,
        flip: bool | None = None,
        average_decay: Decay = 0.98,
        validation_teachers: Count = 1,
        validation_episodes: Count = 40,
    ):
        self.recovery, self.model = recovery, model or ModelOptions("maml")
        self.replay = replay or ReplayOptions(patience=4, episodes=16)
        self.teachers_per_step, self.images_per_class = teachers_per_step, images_per_class
        self.classes_per_visit, self.groups, self.embedded, self.probe = classes_per_visit, groups, embedded, probe
        self.displacement, self.rounds, self.outer_lr = displacement, rounds, outer_lr
        self.bank_capacity, self.flip, self.average_decay = bank_capacity, flip is not False, average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.uses_data = recovery.uses_data
        self.ships = "ema-last" if average_decay else "last"

    def requires(self) -> dict[Role, Capability]:
        """Any answers, and what the recovery needs."""
        return {Role.VISIT: self.recovery.requires() | Capability.LABELS, Role.REVIEW: Capability.LABELS}

    def init(self, zoo: Zoo, rng: Rng) -> TGRState:
        """A random meta-model, an empty bank, the probe, and the choice of validation teachers."""
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
        return TGRState(
            step=0,
            model=model,
            average=copy.deepcopy(model),
            grouping=Grouping(probe_network(self.probe, zoo, rng), self.embedded),
            recovery=self.recovery.init(zoo.canvas, rng.at("recovery")),
            bank=Bank(classes=classes, capacity=self.bank_capacity, shape=zoo.canvas.shape),
            outer=torch.optim.Adam(model.distilled_parameters().values(), lr=self.outer_lr, foreach=True),
            replay=torch.optim.Adam(model.learner.parameters(), lr=self.replay.lr, foreach=True),
            validation=held_out,
            zoo=zoo,
        )

    def plan(self, state: TGRState, zoo: Zoo, rng: Rng) -> Plan:
        """Teachers of one group; before there are groups, and now and then in a large zoo, those not embedded yet."""
        generator, training = rng.generator("select"), state.sound(state.validation.visited_ids)
        new = [name for name in training if name not in state.grouping.embeddings]
        if new and (not state.grouping.groups or state.step % RENEW == 0):
            group, known = new, training
        else:
            group = known = state.grouping.fellows(training, generator)
        visited = _draw(group, self.teachers_per_step, generator)
        reviewed = [name for _ in range(self.rounds - 1) for name in _draw(known, self.teachers_per_step, generator)]
        return {Role.VISIT: visited, Role.REVIEW: reviewed}

    def step(self, state: TGRState, teachers: Teachers, rng: Rng) -> StepReport:
        """Recover from teachers of a group, embed them, regularise their gradients, replay the bank."""
        visited, reviewed = list(teachers[Role.VISIT]), teachers[Role.REVIEW]

        # Recover a task from each of them, and keep it.
        start = time.perf_counter()
        visits = []
        for i, teacher in enumerate(visited):
            drawn = rng.generator("classes", i)
            labels = state.validation.training_labels(teacher.card, self.classes_per_visit, drawn)
            peers = teachers[Role.VISIT].knowing(teacher.card.class_ids, but=teacher.card.id)
            visits.append(Visit(teacher, labels, peers=peers))
        recovered = self.recovery.recover(state.recovery, visits, rng=rng.at("recover"), ranks=state.ranks)
        images = sum(len(r.images) for r in recovered)
        report = StepReport(mean_terms(recovered), {}, images, recover_seconds=time.perf_counter() - start)
        for teacher, shown in zip(visited, recovered, strict=True):
            name = teacher.card.id
            state.bank.add(shown.images, state.zoo.rows(name)[shown.labels], state.zoo.number_of[name])

        # Task embedding by the probe's Fisher information; dissimilar models form a group.
        places = state.ranks.map(lambda r: [state.grouping.embedding(r.images, r.labels)], recovered)
        for teacher, (place,) in zip(visited, places, strict=True):
            state.grouping.place(teacher.card.id, place)
        report.scores |= self._regroup(state)

        # Implicit gradient regularisation: each model's gradient at a point away from the mean gradient.
        each = len(reviewed) // max(1, self.rounds - 1)
        for r in range(self.rounds):
            group = reviewed[(r - 1) * each : r * each] if r else visited
            questions = self._questions(state, group, None if r else recovered, rng.at("tasks", r))
            wanted = [None] * len(group) if r else [shown.labels for shown in recovered]
            losses = imitation_losses(state.model, questions, wanted, state.ranks, logits=state.logits)
            if r == 0 and state.step % RATIO_EVERY == 0:
                ratio = alignment_ratio(state.model, losses, lr=self.displacement, kind="displaced")
                report.scores["regularisation_ratio"] = ratio
            order = rng.generator("order", r)
            met = align(state.model, losses, state.outer, kind="displaced", lr=self.displacement, generator=order)
            report.terms["imitation" if r else "imitation_fresh"] = float(met)

        # Episodes mixed across teachers.
        replayed, _ = replay(
            state.model.learner, state.bank, state.replay, self.replay, rng=rng.at("replay"), ranks=state.ranks
        )
        report.scores |= replayed
        update_average(state.average, state.model, decay=self.average_decay, step=state.step)
        state.step += 1
        return report

    def _regroup(self, state: TGRState) -> Metrics:
        """Groups as soon as all teachers are embedded, or as many as are compared, and now and then anew."""
        grouping = state.grouping
        wanted = min(self.embedded, len(state.sound(state.validation.visited_ids)))
        if len(grouping.embeddings) >= wanted and (not grouping.groups or state.step % REGROUP == 0):
            grouping.regroup(max(1, min(self.groups, len(grouping.embeddings) // self.teachers_per_step)))
        return {"embedded": float(len(grouping.embeddings)), "groups": float(len(set(grouping.groups.values())))}

    def _questions(
        self, state: TGRState, group: Sequence[Teacher], fresh: list[Recovered] | None, rng: Rng
    ) -> list[Question]:
        """For each teacher its fresh images, or images of any class and teacher from the bank."""
        questions = []
        for i, teacher in enumerate(group):
            count = self.images_per_class * min(len(teacher.card.class_ids), self.classes_per_visit)
            images = fresh[i].images if fresh else state.bank.sample(count, rng.generator("images", i))
            images = shift_and_flip(images, rng.generator("augment", i), flip=self.flip)
            questions.append((teacher, images, send(state.zoo.rows(teacher.card.id), images.device)))
        return questions

    def learner(self, state: TGRState) -> AbstractLearner:
        """The moving average, or the last iterate without one."""
        return (state.average if self.average_decay else state.model).learner

    def validate(self, state: TGRState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        shown = partial(self.recovery.recover, state.recovery)
        return state.validation.accuracy(self.learner(state), shown, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: TGRState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the recovery shows of these teachers now."""
        return self.recovery.show(state.recovery, teachers, self.images_per_class, rng)


def _draw(ids: Sequence[str], count: int, generator: torch.Generator) -> list[str]:
    return [ids[i] for i in torch.randperm(len(ids), generator=generator)[:count].tolist()]
