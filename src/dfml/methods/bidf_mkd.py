"""BiDf-MKD: bi-level data-free meta knowledge distillation, from black boxes."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from dfml.bounds import Amount, Count, Decay, StepSize
from dfml.compute.devices import send
from dfml.errors import InputError
from dfml.functional.inner import Parameters, gradient_steps
from dfml.learners import AbstractLearner, Metrics
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers
from dfml.nn import batch_statistics
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Canvas, Recovered, Visit, ZerothOrder
from dfml.training.alignment import Loss
from dfml.training.bank import Bank
from dfml.training.distillation import answered, meta_logits
from dfml.training.meta_model import MetaModel, ModelOptions, build_meta_model, update_average
from dfml.training.pseudo_validation import VISITS, PseudoValidation
from dfml.training.questions import Questions
from dfml.training.replay import ReplayOptions, replay
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import Counted, Tally, logit_answers


@dataclass
class BidfState(AbstractState):
    """The meta-model and its moving average, the task memory, the optimiser, and the questions asked so far."""

    model: MetaModel
    average: MetaModel
    recovery: Canvas
    memory: Bank
    outer: torch.optim.Optimizer
    validation: PseudoValidation
    questions: Questions
    zoo: Zoo
    kept = ("model", "average", "recovery", "memory", "outer", "validation", "questions")

    def rows(self, teacher: Teacher) -> Tensor:
        """Rows of the class head and of the memory for a teacher's outputs, in their order."""
        return send(self.zoo.rows(teacher.card.id), self.memory.device)


@dataclass(frozen=True)
class _Task:
    """A visited teacher: the distances from its answers on both sets, and those met on the outer level."""

    inner: Loss
    outer: Loss
    met: list[Tensor] = field(default_factory=list)


class BiDfMKD(AbstractMethod[BidfState]):
    """Hu, Shen, Wang, Wu, Yuan, Tao: "Learning to Learn from APIs: Black-Box Data-Free Meta-Learning", ICML 2023.

    https://arxiv.org/abs/2305.18413

    Each step inverts one black box by zeroth-order gradients into a support set and, after the meta-model has been
    distilled on that, into a query set near the decision boundary of the distilled model. The distance from the
    teacher on the query set, after the distillation on the support set, is the meta-loss (second order). Both sets go
    to a memory, of which tasks across teachers are replayed.

    *Deviations from the paper* (of which only the abstract and the code were at hand; what follows is reconstructed
    where these are silent): a class head with a row for every zoo class in the place of a shared 5-way head, on which
    output c means another class for every teacher; teachers need to give probabilities, not logits; the task of the
    visited teacher opens every meta-batch until the next visit, for it asks no further questions; questions may be
    given a budget; the student's part of the boundary term has its exact gradient, as its weights are at hand; the
    result is a moving average; a validation teacher and its classes may be held out to show progress.

    *Deviations from the published code*: true KL in both levels (its inner gradient was some 25 times too small); the
    best iterate is chosen by the loss as asked, not by the surrogate; L1 on probabilities, not on logits; both sets
    are stored for any use; larger moves along the directions (`ZerothOrder`); the generator starts as torch starts
    its layers; augmentation per sample; bytes are rounded, in memory; no choice of checkpoint on test.

    Args:
        recovery: the zeroth-order inversion.
        model: learner and network.
        replay: tasks from the memory in a meta-batch, beside that of the visited teacher (3 in the published code), and
            how long it goes on (until 200 meta-batches in a row gave no better accuracy).
        images_per_class: recovered images per class and set (30 in the published code).
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        warmup_steps: steps whose query sets are recovered without the boundary term (4000 meta-batches in the published
            code, which are at most 20 visits).
        inner_steps: of distillation on the support set (10 in the published code).
        inner_lr: their step size.
        second_order: differentiate through the inner gradients.
        lr: Adam's step size.
        query_budget: questions in all, those for validation included; a visit takes place while it fits in. None: any
            number.
        query_budget_per_teacher: the same for each teacher.
        memory_capacity: images kept per class (20 batches in the published code).
        average_decay: of the moving average that is evaluated and shipped; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.

    Raises:
        InputError: another recovery; from `init` where the budget does not allow of one visit.
    """

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        model: ModelOptions | None = None,
        replay: ReplayOptions | None = None,
        images_per_class: Amount = 30,
        classes_per_visit: Amount = 5,
        warmup_steps: Count = 20,
        inner_steps: Amount = 10,
        inner_lr: StepSize = 0.01,
        second_order: bool = True,
        lr: StepSize = 1e-3,
        query_budget: Amount | None = None,
        query_budget_per_teacher: Amount | None = None,
        memory_capacity: Amount = 600,
        average_decay: Decay = 0.98,
        validation_teachers: Count = 1,
        validation_episodes: Count = 40,
    ):
        if not isinstance(recovery, ZerothOrder):
            raise InputError(
                f"recovery {type(recovery).__name__} for BiDf-MKD",
                "zeroth_order, whose questions are known beforehand",
                "leave the recovery as it is, or choose another method",
            )
        self.recovery, self.model = recovery, model or ModelOptions("maml")
        self.replay = replay or ReplayOptions(patience=200, episodes=3)
        self.images_per_class, self.classes_per_visit = images_per_class, classes_per_visit
        self.warmup_steps, self.lr = warmup_steps, lr
        self.inner_steps, self.inner_lr, self.second_order = inner_steps, inner_lr, second_order
        self.query_budget, self.query_budget_per_teacher = query_budget, query_budget_per_teacher
        self.memory_capacity, self.average_decay = memory_capacity, average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.ships = "ema-last" if average_decay else "last"

    def requires(self) -> dict[Role, Capability]:
        """Probabilities are enough."""
        return {Role.VISIT: self.recovery.requires()}

    def init(self, zoo: Zoo, rng: Rng) -> BidfState:
        """A random meta-model and an empty memory."""
        held_out = PseudoValidation(
            zoo,
            count=self.validation_teachers,
            images_per_class=self.images_per_class,
            needs=self.recovery.requires(),
            rng=rng,
        )
        classes = len(zoo.class_ids)
        self.replay.check(classes=classes - len(held_out.class_ids), capacity=self.memory_capacity)
        model = build_meta_model(self.model, zoo.canvas, classes=classes, rng=rng)
        state = BidfState(
            step=0,
            model=model,
            average=copy.deepcopy(model),
            recovery=self.recovery.init(zoo.canvas, rng.at("recovery")),
            memory=Bank(classes=classes, capacity=self.memory_capacity, shape=zoo.canvas.shape),
            outer=torch.optim.Adam(model.parameters(), lr=self.lr, foreach=True),
            validation=held_out,
            questions=Questions(self.query_budget, self.query_budget_per_teacher),
            zoo=zoo,
        )
        state.notes = self._check_budget(state)
        return state

    def plan(self, state: BidfState, zoo: Zoo, rng: Rng) -> Plan:
        """One teacher whose visit the budget allows, or none."""
        sound = state.sound(state.validation.visited_ids)
        able = [name for name in sound if self._cost(state, name) <= state.questions.left(name)]
        return {Role.VISIT: [able[rng.integer("select", high=len(able))]]} if able else {}

    def step(self, state: BidfState, teachers: Teachers, rng: Rng) -> StepReport:
        """Invert one black box, distil it on two levels, replay tasks across black boxes."""
        report, task, before = StepReport(), None, state.questions.total
        for teacher in teachers[Role.VISIT]:  # one; none when the budget is used up
            start = time.perf_counter()
            rows, number = state.rows(teacher), state.zoo.number_of[teacher.card.id]
            labels = state.validation.training_labels(teacher.card, self.classes_per_visit, rng.generator("classes"))

            # Support set: zeroth-order inversion with the class loss alone.
            support = self._recover(state, Visit(teacher, labels), rng.at("support"))
            inner = self._distance(state, teacher, support.images)

            # Boundary query set: the meta-model distilled on the support set answers alike, and differs most.
            student = None
            if state.step >= self.warmup_steps:
                student = partial(_student, state.model, rows, self._distilled(state, inner))
            query = self._recover(state, Visit(teacher, labels, student), rng.at("query"))
            task = _Task(inner, self._distance(state, teacher, query.images))

            # Task memory.
            for shown in (support, query):
                state.memory.add(shown.images, state.zoo.rows(teacher.card.id)[shown.labels], number)
            report.images, report.recover_seconds = 2 * len(labels), time.perf_counter() - start
            report.terms = support.terms | {f"query_{name}": value for name, value in query.terms.items()}

        # Meta-batches: the bi-level distillation of the visited teacher, and tasks across teachers from the memory.
        beside = partial(self._add_gradient, state, task) if task else None
        learner, rng = state.model.learner, rng.at("replay")
        replayed, _ = replay(learner, state.memory, state.outer, self.replay, rng=rng, ranks=state.ranks, beside=beside)
        if beside and not replayed:  # the memory holds too few classes yet
            state.outer.zero_grad()
            beside()
            state.outer.step()
        update_average(state.average, state.model, decay=self.average_decay, step=state.step)
        if task:
            report.terms["distillation"] = float(torch.stack(task.met).mean())
        report.scores = replayed | self._left(state)
        report.queries = state.questions.total - before
        state.step += 1
        return report

    def _recover(self, state: BidfState, visit: Visit, rng: Rng) -> Recovered:
        """The images of one visit; what the teacher is asked is counted."""
        tally, name = Tally(), visit.teacher.card.id
        visit = replace(visit, teacher=Counted(visit.teacher, tally))
        (recovered,) = self.recovery.recover(state.recovery, [visit], rng=rng, ranks=state.ranks)
        state.questions.count(name, tally, state.ranks)
        return recovered

    def _distance(self, state: BidfState, teacher: Teacher, images: Tensor) -> Loss:
        """KL(teacher || meta-model) on images, about which the teacher is asked once."""
        tally = Tally()
        ((answer,),) = state.ranks.map(partial(_ask, Counted(teacher, tally)), [images])
        state.questions.count(teacher.card.id, tally, state.ranks)
        return answered(state.model, answer, images, state.rows(teacher), logits=meta_logits)

    def _distilled(self, state: BidfState, inner: Loss) -> Parameters:
        """The meta-model's parameters after the inner level, as a function of those before."""
        parameters: Parameters = dict(state.model.distilled_parameters())
        with batch_statistics(state.model):
            return gradient_steps(
                inner, parameters, steps=self.inner_steps, lr=self.inner_lr, second_order=self.second_order
            )

    def _add_gradient(self, state: BidfState, task: "_Task") -> None:
        """The outer level: the distance on the query set after distillation on the support set."""
        adapted = self._distilled(state, task.inner)
        state.model.train()  # BatchNorm gathers running statistics
        loss = task.outer(adapted)
        state.model.eval()
        parameters = list(state.model.distilled_parameters().values())
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = g if p.grad is None else p.grad + g
        task.met.append(loss.detach())

    def _cost(self, state: BidfState, name: str) -> int:
        """Questions of a visit: two sets are recovered, and answered once."""
        classes = len(set(state.zoo.entry(name).class_ids) - set(state.validation.class_ids))
        images = self.images_per_class * min(classes, self.classes_per_visit)
        return 2 * (self.recovery.queries_of(images) + images)

    def _check_budget(self, state: BidfState) -> tuple[str, ...]:
        """What a visit costs, in words."""
        costs = {name: self._cost(state, name) for name in state.validation.visited_ids}
        least, most = min(costs.values()), max(costs.values())
        if not any(cost <= state.questions.left(name) for name, cost in costs.items()):
            budgets = [b for b in (self.query_budget, self.query_budget_per_teacher) if b is not None]
            raise InputError(
                f"a budget of {min(budgets):,} questions",
                f"at least {least:,}, which one visit asks",
                "raise query_budget or query_budget_per_teacher, or lower recovery.directions, recovery.steps or "
                "images_per_class",
            )
        return (f"A visit asks a model {most:,} questions.",)

    def _left(self, state: BidfState) -> Metrics:
        return {} if self.query_budget is None else {"queries_left": float(self.query_budget - state.questions.total)}

    def learner(self, state: BidfState) -> AbstractLearner:
        """The moving average, or the last iterate without one."""
        return (state.average if self.average_decay else state.model).learner

    def validate(self, state: BidfState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw, if the budget allows of recovering them."""

        def recover(visits: Sequence[Visit], *, rng: Rng, learn: bool) -> list[Recovered]:
            return [self._recover(state, visit, rng) for visit in visits]

        held_out, images = state.validation, self.images_per_class * len(state.validation.class_ids)
        affordable = all(VISITS * self.recovery.queries_of(images) <= state.questions.left(i) for i in held_out.ids)
        if not len(held_out.bank) and not affordable:
            return {}
        return held_out.accuracy(self.learner(state), recover, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: BidfState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the memory holds of these teachers, which asks them nothing; those never visited are visited now."""
        sheets = []
        for teacher in teachers:
            number, rows = state.zoo.number_of[teacher.card.id], state.rows(teacher)
            count = self.images_per_class * len(rows)
            images, labels = state.memory.of_teacher(number, rows, count, rng.generator("sheet", number))
            held = [Recovered(images, labels, {})] if len(images) else None
            sheets += held or self.recovery.show(state.recovery, [teacher], self.images_per_class, rng)
        return sheets


def _ask(teacher: Teacher, images: Tensor) -> list[Tensor]:
    return [logit_answers(teacher, images).float()]


def _student(model: MetaModel, rows: Tensor, parameters: Parameters, images: Tensor) -> Tensor:
    """The distilled meta-model, a constant by now; differentiable with respect to the images."""
    with batch_statistics(model), mixed_precision():
        return meta_logits(model, {k: p.detach() for k, p in parameters.items()}, images, rows)
