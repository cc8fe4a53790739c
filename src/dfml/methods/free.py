"""FREE: faster inversion via meta-generator, better generalisation via meta-learner."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from dfml.compute.devices import compiled, send
from dfml.errors import InputError
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import inner_product_distillation, kl_divergence
from dfml.functional.inner import Parameters
from dfml.learners import AbstractLearner, Metrics
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, Teachers
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered, Student, mean_terms
from dfml.training.alignment import Loss, align, alignment_ratio
from dfml.training.bank import Bank
from dfml.training.meta_model import MetaModel, build_meta_model, update_average
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.replay import replay
from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

DIVERGENCES = {"kl": kl_divergence, "inner_product": inner_product_distillation}
RATIO_EVERY = 25  # steps between two measurements of what alignment adds


@dataclass
class FreeState(AbstractState):
    """The meta-model and its moving average, the meta-generator, the bank, and the optimisers."""

    model: MetaModel
    average: MetaModel
    recovery: AbstractRecovery
    bank: Bank
    outer: torch.optim.Optimizer
    replay: torch.optim.Optimizer
    validation: PseudoValidation
    zoo: Zoo
    number_of: dict[str, int]  # teacher id -> its number in the bank
    visited: dict[str, None] = field(default_factory=dict)  # an ordered set
    last_support: list[Tensor] = field(default_factory=list)
    logits: Callable[[MetaModel, Parameters, Tensor, Tensor], Tensor] = field(default_factory=lambda: _logits)

    def compile(self, device: torch.device) -> None:
        """The meta-model's answers in a step of alignment."""
        self.logits = compiled(_logits, device)

    def parts(self) -> dict[str, Any]:
        """Everything that `FREE.init` does not derive from the zoo and the seed, but what was visited."""
        names = ("model", "average", "recovery", "bank", "outer", "replay", "validation")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """The parts, the visited teachers, and the last replayed support."""
        return super().state_dict() | {"visited": list(self.visited), "last_support": list(self.last_support)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        super().load_state_dict(state)
        self.visited = dict.fromkeys(state["visited"])
        self.last_support = [saved.to(self.bank.device) for saved in state["last_support"]]

    def rows(self, card: ModelCard) -> Tensor:
        """Rows of the class head and of the bank for a teacher's classes, in the order of its outputs."""
        return self.zoo.rows(card.id)


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
    The recipe ``published`` sets each of these back.

    Args:
        recovery: the meta-generator.
        learner: ``maml``, ``anil``, ``protonet`` or ``centroid``.
        learner_options: keyword arguments of that learner.
        network: architecture of the learner.
        width: its channels; None is the architecture's usual width.
        head: ``class``: one row per zoo class; ``literal``: the learner's own shared head.
        teachers_per_step: visited teachers a step (4 in the published code).
        with_replacement: draw them with replacement, as the published code does.
        images_per_class: recovered images per class and visit (20 in the published code).
        warmup_steps: steps that train the generator alone (19 in the published code).
        rounds: alignment rounds a step; the first on the fresh images, the others on images from the bank.
        distil_on: a teacher answers on its ``own`` images, or on images of all teachers from the ``bank``.
        alignment: ``sequential`` steps over teachers, or the ``average`` of the same gradients at one point.
        fast_lr: step size of the sequential steps.
        fast_optimiser: SGD, or Adam as in the published code.
        outer_lr: Adam's step size along the displacement.
        reptile_scale: None moves along the mean gradient; a number multiplies the raw displacement (67 published).
        shared_optimiser: one Adam for the outer update and the replay, as in the published code.
        distillation: true KL, or what the published code computes.
        bank_capacity: images kept per class (400 in the published code), as far as the memory of a `Bank` goes.
        bank_keeps: images of ``all`` visited teachers or of the ``last`` alone, as in the published code.
        bank_floor: floor instead of round when quantising, as the published code does.
        replay_patience: meta-batches without a better training accuracy that end a step's replay; 0: no replay.
        replay_limit: at most so many meta-batches a step; None: no limit.
        replay_episodes: episodes of a meta-batch; their losses are summed.
        replay_lr: Adam's step size in replay.
        replay_together: compute the episodes of a meta-batch at once, to the same numbers; None: not on a CPU.
        way: classes of a pseudo-episode.
        shot: support images per class.
        queries: query images per class.
        stale_student: the adversarial student is the learner adapted to the last replayed episode, as published.
        flip: mirror images when distilling.
        average_decay: of the moving average that is evaluated and shipped; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.
    """

    requires: ClassVar[Capability] = Capability.LOGITS | Capability.GRADIENTS
    compiles = True

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        learner: str = "protonet",
        learner_options: dict[str, Any] | None = None,
        network: str = "conv4",
        width: int | None = None,
        head: Literal["class", "literal"] = "class",
        teachers_per_step: int = 4,
        with_replacement: bool = False,
        images_per_class: int = 20,
        warmup_steps: int = 19,
        rounds: int = 1,
        distil_on: Literal["own", "bank"] = "own",
        alignment: Literal["sequential", "average"] = "sequential",
        fast_lr: float = 0.03,
        fast_optimiser: Literal["sgd", "adam"] = "sgd",
        outer_lr: float = 3e-3,
        reptile_scale: float | None = None,
        shared_optimiser: bool = False,
        distillation: Literal["kl", "inner_product"] = "kl",
        bank_capacity: int = 400,
        bank_keeps: Literal["all", "last"] = "all",
        bank_floor: bool = False,
        replay_patience: int = 10,
        replay_limit: int | None = None,
        replay_episodes: int = 10,
        replay_lr: float = 1e-3,
        replay_together: bool | None = None,
        way: int = 5,
        shot: int = 1,
        queries: int = 15,
        stale_student: bool = False,
        flip: bool = True,
        average_decay: float = 0.98,
        validation_teachers: int = 1,
        validation_episodes: int = 40,
    ):
        self.recovery, self.learner_name, self.learner_options = recovery, learner, learner_options or {}
        self.uses_data = recovery.uses_data
        self.network, self.width, self.head = network, width, head
        self.teachers_per_step, self.with_replacement = teachers_per_step, with_replacement
        self.images_per_class, self.warmup_steps = images_per_class, warmup_steps
        self.rounds, self.distil_on = rounds, distil_on
        self.alignment, self.fast_lr, self.outer_lr = alignment, fast_lr, outer_lr
        self.fast_optimiser, self.reptile_scale = fast_optimiser, reptile_scale
        self.shared_optimiser, self.divergence = shared_optimiser, DIVERGENCES[distillation]
        self.bank_capacity, self.bank_keeps, self.bank_floor = bank_capacity, bank_keeps, bank_floor
        self.replay_patience, self.replay_limit = replay_patience, replay_limit
        self.replay_episodes, self.replay_lr, self.replay_together = replay_episodes, replay_lr, replay_together
        self.way, self.shot, self.queries = way, shot, queries
        self.stale_student, self.flip, self.average_decay = stale_student, flip, average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.ships = "ema-last" if average_decay else "last"

    def init(self, zoo: Zoo, rng: Rng) -> FreeState:
        """A random meta-model, an empty bank, and the choice of validation teachers."""
        spec = zoo.input_spec
        self.recovery.prepare(spec, rng.at("recovery"))
        model = build_meta_model(
            self.learner_name,
            self.learner_options,
            network=self.network,
            width=self.width,
            spec=spec,
            classes=len(zoo.class_ids),
            head=self.head,
            rng=rng,
        )
        replay_adam = torch.optim.Adam(
            model.parameters() if self.shared_optimiser else model.learner.parameters(), lr=self.replay_lr, foreach=True
        )
        outer = torch.optim.Adam(model.distilled_parameters().values(), lr=self.outer_lr, foreach=True)
        validation = PseudoValidation(
            zoo, count=self.validation_teachers, images_per_class=self.images_per_class, rng=rng
        )
        self._check(len(zoo.class_ids) - len(validation.class_ids))
        return FreeState(
            step=0,
            model=model,
            average=copy.deepcopy(model),
            recovery=self.recovery,
            bank=Bank(
                classes=len(zoo.class_ids),
                capacity=self.bank_capacity,
                shape=(spec.channels, spec.size, spec.size),
                floor=self.bank_floor,
            ),
            outer=replay_adam if self.shared_optimiser else outer,
            replay=replay_adam,
            validation=validation,
            zoo=zoo,
            number_of={name: i for i, name in enumerate(zoo.ids)},
        )

    def _check(self, classes: int) -> None:
        """Refuse pseudo-episodes that the bank could never fill, before any work."""
        if self.replay_patience and (self.way > classes or self.shot + self.queries > self.bank_capacity):
            raise InputError(
                f"{self.way}-way {self.shot}-shot episodes with {self.queries} queries, from a bank of {classes} "
                f"training classes of at most {self.bank_capacity} images",
                "no more ways than training classes, no more shots and queries than images of a class",
                "lower --method.way, --method.shot or --method.queries, raise --bank_capacity, or hold out no teacher "
                "(--validation_teachers 0)",
            )

    def plan(self, state: FreeState, zoo: Zoo, rng: Rng) -> Plan:
        """The teachers to visit and, after the warm-up, those to review, as many in each further round."""
        generator = rng.generator("select")
        visited = _draw(state.validation.training_ids, self.teachers_per_step, generator, self.with_replacement)
        if state.step < self.warmup_steps:
            return {Role.VISIT: visited}
        known = sorted({*state.visited, *visited}) if self.distil_on == "own" else state.validation.training_ids
        reviewed: list[str] = []
        for _ in range(self.rounds - 1):
            reviewed += _draw(known, self.teachers_per_step, generator, self.with_replacement)
        return {Role.VISIT: visited, Role.REVIEW: reviewed}

    def step(self, state: FreeState, teachers: Teachers, rng: Rng) -> Metrics:
        """Recover from some teachers, align the meta-model with them one after the other, replay the bank."""
        warm = state.step >= self.warmup_steps
        visited, reviewed = list(teachers[Role.VISIT]), teachers[Role.REVIEW]

        # Faster inversion: adapt the meta-generator to each teacher and keep what it shows.
        labels = [state.validation.training_labels(t.card) for t in visited]
        students = self._students(state, visited) if warm else None
        start = time.perf_counter()
        recovered = state.recovery.recover(visited, labels, students=students, rng=rng.at("recover"), ranks=state.ranks)
        metrics = mean_terms(recovered)
        metrics |= {
            "images": float(sum(len(r.images) for r in recovered)),
            "recover_seconds": time.perf_counter() - start,
            "student": float(students is not None),  # 0: the adversarial term was skipped
        }
        if warm:
            self._store(state, visited, recovered)

            # Better generalisation: sequential steps over the teachers, Reptile along the displacement.
            met = None
            a_round = len(reviewed) // max(1, self.rounds - 1)
            for r in range(self.rounds):
                group = visited if r == 0 else reviewed[(r - 1) * a_round : r * a_round]
                tasks = self._tasks(state, group, recovered if r == 0 else None, rng.at("tasks", r))
                if not tasks:  # the bank holds no image of these teachers any more
                    continue
                if r == 0 and state.step % RATIO_EVERY == 0:
                    metrics["alignment_ratio"] = alignment_ratio(state.model, tasks, lr=self.fast_lr)
                met = align(
                    state.model,
                    tasks,
                    state.outer,
                    kind=self.alignment,
                    lr=self.fast_lr,
                    fast_optimiser=self.fast_optimiser,
                    scale=self.reptile_scale,
                    generator=rng.generator("order", r),
                )
            if met is not None:
                metrics["distillation"] = float(met)

            # Episodes mixed across teachers.
            replayed, last = replay(
                state.model.learner,
                state.bank,
                state.replay,
                patience=self.replay_patience,
                limit=self.replay_limit,
                episodes=self.replay_episodes,
                way=self.way,
                shot=self.shot,
                queries=self.queries,
                rng=rng.at("replay"),
                together=self.replay_together,
                ranks=state.ranks,
            )
            metrics |= replayed
            if self.stale_student and last is not None:
                state.last_support = [last.support_x, last.support_y]
            update_average(state.average, state.model, decay=self.average_decay, step=state.step - self.warmup_steps)
        state.step += 1
        return metrics

    def _students(self, state: FreeState, teachers: Sequence[Teacher]) -> list[Student] | None:
        """For each teacher the learner's answer in the teacher's label order."""
        if self.stale_student:
            if not state.last_support:
                return None
            return [state.model.learner.adapt(*state.last_support)] * len(teachers)
        return [partial(state.model, rows=self._rows(state, t)) for t in teachers]

    def _rows(self, state: FreeState, teacher: Teacher) -> Tensor:
        """Rows of the head that belong to a teacher's outputs, in their order."""
        literal = self.head == "literal"
        rows = torch.arange(len(teacher.card.class_ids)) if literal else state.rows(teacher.card)
        return send(rows, state.bank.device)

    def _store(self, state: FreeState, teachers: Sequence[Teacher], recovered: Sequence[Recovered]) -> None:
        kept = list(zip(teachers, recovered, strict=True))
        for teacher, shown in kept if self.bank_keeps == "all" else kept[-1:]:
            classes = state.rows(teacher.card)[shown.labels]
            state.bank.add(shown.images, classes, state.number_of[teacher.card.id])
            state.visited[teacher.card.id] = None

    def _tasks(
        self, state: FreeState, teachers: Sequence[Teacher], recovered: Sequence[Recovered] | None, rng: Rng
    ) -> list[Loss]:
        """A distillation loss for each teacher, on its fresh images or on images from the bank."""
        seen: list[tuple[Teacher, Tensor]] = []
        for i, teacher in enumerate(teachers):
            count, generator = self.images_per_class * len(teacher.card.class_ids), rng.generator("images", i)
            if self.distil_on == "bank":
                images = state.bank.sample(count, generator)
            elif recovered is not None:
                images = recovered[i].images
            else:
                number, rows = state.number_of[teacher.card.id], state.rows(teacher.card)
                images = state.bank.of_teacher(number, rows, count, generator)[0]
                if len(images) < 2:  # overwritten by other teachers of the same classes
                    continue
            seen.append((teacher, shift_and_flip(images, rng.generator("augment", i), flip=self.flip)))
        answers = state.ranks.map(_answers, seen)
        return [
            partial(self._distillation, state, images, answer, self._rows(state, teacher))
            for (teacher, images), (answer,) in zip(seen, answers, strict=True)
        ]

    def _distillation(
        self, state: FreeState, images: Tensor, answers: Tensor, rows: Tensor, parameters: Parameters
    ) -> Tensor:
        with mixed_precision():
            logits = state.logits(state.model, parameters, images, rows)
        return self.divergence(answers, logits.float())

    def learner(self, state: FreeState) -> AbstractLearner:
        """The moving average, or the last iterate without one.

        Raises:
            InputError: the run ended in its warm-up, so that the learner is still random.
        """
        if state.step <= self.warmup_steps:
            raise InputError(
                f"a run of {state.step} steps, all of them warm-up of the generator",
                f"more than {self.warmup_steps} steps, so that the learner has learned something",
                "go on with --resume and more --minutes or --steps, or lower --warmup_steps",
            )
        return (state.average if self.average_decay else state.model).learner

    def validate(self, state: FreeState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        if state.step <= self.warmup_steps:
            return {}
        return state.validation.accuracy(
            self.learner(state), state.recovery, episodes=self.validation_episodes, rng=rng
        )

    def recovered_sheet(self, state: FreeState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the meta-generator shows of these teachers now."""
        return state.recovery.show(teachers, self.images_per_class, rng)


def _logits(model: MetaModel, parameters: Parameters, images: Tensor, rows: Tensor) -> Tensor:
    # The learner holds the same encoder a second time: tying would leave the fast weights in its place.
    return functional_call(model, parameters, (images, rows), tie_weights=False)


def _answers(question: tuple[Teacher, Tensor]) -> list[Tensor]:
    teacher, images = question
    with torch.no_grad(), mixed_precision():
        return [teacher.logits(images).float()]


def _draw(ids: list[str], count: int, generator: torch.Generator, replacement: bool) -> list[str]:
    if replacement:
        return [ids[i] for i in torch.randint(len(ids), (count,), generator=generator).tolist()]
    return [ids[i] for i in torch.randperm(len(ids), generator=generator)[:count].tolist()]
