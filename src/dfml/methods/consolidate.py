"""Consolidate: one network that answers like every model of the zoo, from images that the zoo itself gives."""

import copy
import time
from functools import partial
from typing import cast

import torch
from torch import Tensor

from dfml.bounds import Amount, Count, Decay, Positive, Share, StepSize, Weight
from dfml.data.drawings import Drawing
from dfml.errors import InputError
from dfml.learners import AbstractLearner, FrozenLearner, Metrics
from dfml.methods.base import AbstractMethod, Plan, Role, StepReport, Teachers
from dfml.methods.consolidate_state import ConsolidateState, check_questions, with_gradients
from dfml.nn import AnsweringBackbone, Encoder, as_floats
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered, Visit, mean_terms
from dfml.training.answering import answering_teachers
from dfml.training.bank import AnswerBank, as_bytes
from dfml.training.lesson import Lesson
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.questions import Questions
from dfml.training.sight import Sight
from dfml.training.student import head_of, ready, student_backbone
from dfml.training.variation import Variation
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import OnDemand, Teacher

LATE = 3  # power of the run's progress that the number of updates grows with
FEW = 10  # teachers, of which none can be spared for validation


class Consolidate(AbstractMethod[ConsolidateState]):
    """Our own learner. Its parts are FREE's meta-generator (Wei et al., CVPR 2024, https://arxiv.org/abs/2405.00984)
    and distillation of many networks into one (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

    A step recovers images from a few teachers, asks every teacher on every image, and trains one student on all
    answers so far: one backbone with a head for each teacher. Images of a new task are compared by what all its
    heads answer (`AnsweringBackbone`): the zoo's probabilities tell new classes apart better than its features do, and
    best what all of them say together. In a small zoo the layer under the heads counts, too. Few teachers of many
    classes teach more by what they see than by what they answer: ``features`` adds that; where the answers are then
    left out, the student ships without heads, and the features of its own backbone are compared.

    *Deviations from the paper*: there is no paper.

    *Deviations from the published code*: there is none.

    Args:
        recovery: the meta-generator.
        network: architecture of the student; ``timm:NAME`` is one of timm, ``teacher:ID`` a copy of a teacher.
        width: its channels; None is the architecture's usual width.
        hidden: units of the layer between the student's backbone and its heads; 0 for linear heads.
        teachers_per_step: visited teachers a step.
        meta_batch: visits that share one step of the meta-generator. More than one are computed at once on a GPU and
            divided among processes; the generator learns more from a step for each.
        images_per_class: recovered images per class and visit.
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        drawn: images that are drawn in a step and asked like those recovered.
        drawing: what they show: ``leaves``, ``things``, ``characters``, or ``things and characters``
            (`dfml.data.drawings`).
        distortion: strength of zooms, turns and changes of colour; the teachers answer on the result. Images that are
            `varied` by themselves stay as they are.
        mixed: share of the images that is mixed with another one before the teachers answer.
        flip: mirror images; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
        answering_teachers: so many answer; None is all of them, as far as the student's outputs go
            (`dfml.training.answering`). Those that do not fit the zoo's cache are read from the disk at every step, one
            after the other: memory stays bounded, and a ResNet-18 is read in a tenth of the time in which it answers on
            400 images.
        answers_per_step: so many of them answer in a step, drawn anew; None is all of them, or fewer where their
            answers would cost many times as much as the student's updates.
        questions: that a teacher is asked at most, about one image each, where its weights are not at hand; then the
            student goes on learning. None is any number.
        features: so many projections of each teacher's features are learned beside the answers
            (`dfml.training.sight.Sight`), of those whose features can be seen; 0 is answers alone.
        features_weight: of their squared error, in the loss.
        answers_weight: of the answers' divergence beside it; 0 learns from features alone.
        updates: of the student, a step, in the mean of the run: few at first, four times as many in the end. What has
            been learned well from few images stands in the way of learning from many (Ash, Adams, NeurIPS 2020, "On
            warm-starting neural network training").
        batch_size: images of an update.
        lr: Adam's highest step size; over the run it rises and falls to zero, as a cosine.
        temperature: of the answers while they are learned (Hinton et al.).
        average_decay: of the moving average that is shipped, per update.
        capacity: answered images kept.
        validation_teachers: held out with their classes, to show progress. None is 1, and 0 in a zoo of ten teachers
            or fewer, which needs them all.
        validation_episodes: pseudo-episodes of one validation.

    Raises:
        InputError: nothing to learn: neither answers nor features; from `init` where no teacher's features can be seen.
    """

    least_steps = 10  # on the embedded zoo 4 are about level with its best model, 10 well ahead; the recipes take more
    compiles = grows = True
    ships = "ema-last"

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        network: str = "conv4",
        width: Amount | None = None,
        hidden: Count = 512,
        teachers_per_step: Amount = 4,
        meta_batch: Amount = 1,
        images_per_class: Amount = 20,
        classes_per_visit: Amount = 5,
        drawn: Count = 0,
        drawing: Drawing = "leaves",
        distortion: Weight = 1.0,
        mixed: Share = 0.3,
        flip: bool | None = None,
        answering_teachers: Amount | None = None,
        answers_per_step: Amount | None = None,
        questions: Amount | None = None,
        features: Count = 0,
        features_weight: Weight = 1.0,
        answers_weight: Weight = 1.0,
        updates: Amount = 40,
        batch_size: Amount = 128,
        lr: StepSize = 1e-2,
        temperature: Positive = 2.0,
        average_decay: Decay = 0.99,
        capacity: Amount = 60_000,
        validation_teachers: Count | None = None,
        validation_episodes: Count = 40,
    ):
        if not answers_weight and not (features and features_weight):
            raise InputError(
                "answers_weight 0 without features", "something to learn", "set features, 512 say, or answers_weight 1"
            )
        self.recovery, self.network, self.width, self.hidden = recovery, network, width, hidden
        self.uses_data = recovery.uses_data
        self.teachers_per_step, self.meta_batch = teachers_per_step, meta_batch
        self.images_per_class, self.classes_per_visit = images_per_class, classes_per_visit
        self.answers_per_step, self.drawn, self.questions = answers_per_step, drawn, questions
        self.features, self.answers_weight = features, answers_weight
        self.variation = Variation(distortion, mixed, flip is not False, drawn, drawing)
        self.answering_teachers = answering_teachers
        self.lesson = Lesson(batch_size, lr, temperature, average_decay, features_weight, answers_weight)
        self.updates, self.capacity = updates, capacity
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes

    def requires(self) -> dict[Role, Capability]:
        """Anything at all of those that answer, and what the recovery needs of those that are visited."""
        return {Role.VISIT: self.recovery.requires(), Role.ANSWER: Capability.LABELS, Role.REVIEW: Capability.LABELS}

    def init(self, zoo: Zoo, rng: Rng) -> ConsolidateState:
        """A random student, an empty bank, the answering teachers and the validation teachers."""
        canvas = zoo.canvas
        validation = PseudoValidation(
            zoo,
            count=int(len(zoo.ids) > FEW) if self.validation_teachers is None else self.validation_teachers,
            images_per_class=self.images_per_class,
            needs=self.recovery.requires(),
            rng=rng,
        )
        if self.questions:
            check_questions(self.recovery, zoo, validation.visited_ids)
        answering = answering_teachers(zoo, validation.training_ids, self.answering_teachers, rng)
        with rng.seeded("student"):
            backbone, spec = student_backbone(self.network, zoo, canvas, width=self.width)
            classes = [zoo.rows(name).tolist() for name in answering.outputs_of]
            student = Encoder(AnsweringBackbone(backbone, classes, hidden=self.hidden), spec)
            seen = [i for i in answering.outputs_of if self.features and Capability.FEATURES in zoo.capabilities(i)]
            if not seen and not self.answers_weight:
                raise InputError(
                    f"answers_weight 0 for zoo {zoo.name}",
                    "a teacher whose features can be seen",
                    "set answers_weight 1",
                )
            width = self.hidden or int(backbone.feature_size)  # type: ignore[arg-type]
            sight = Sight(seen, self.features, width)
        student = ready(student)
        images = self.teachers_per_step * self.images_per_class * self.classes_per_visit + self.drawn
        answering.choose(
            self.answers_per_step, zoo, student, images=images, updated=self.updates * self.lesson.batch_size
        )
        state = ConsolidateState(
            step=0,
            student=student,
            sight=sight,
            average=copy.deepcopy(student),
            optimiser=torch.optim.Adam([*student.parameters(), *sight.parameters()], lr=self.lesson.lr, fused=True),
            recovery=self.recovery.init(canvas, rng.at("recovery")),
            bank=AnswerBank(capacity=self.capacity, shape=canvas.shape, outputs=answering.width + sight.width),
            validation=validation,
            answering=answering,
            questions=Questions(None, self.questions, with_gradients(zoo)),
            zoo=zoo,
        )
        state.notes = (*answering.notes, *state.bank.notes)
        return state

    def plan(self, state: ConsolidateState, zoo: Zoo, rng: Rng) -> Plan:
        """The teachers to visit, and those that answer."""
        state.zoo = zoo  # counts what its teachers are asked; one that has grown is another object
        review = [name for name in state.joined if state.backlog and name not in state.aside]
        sound = [name for name in state.sound(state.answering.outputs_of) if state.questions.left(name) > 0]
        if not sound:  # all that may be asked is: what is left is to learn
            return {Role.REVIEW: review}
        ids = state.sound(state.validation.visited_ids)
        if self.questions and self.drawn:  # in the place of what black boxes have nothing to do with
            ids = [name for name in ids if self.recovery.asks(zoo.capabilities(name))]
        chosen = torch.randperm(len(ids), generator=rng.generator("select"))[: self.teachers_per_step]
        asked = state.answering.drawn(sound, rng.generator("answering"))
        return {Role.VISIT: [ids[i] for i in chosen.tolist()], Role.ANSWER: asked, Role.REVIEW: review}

    def grow(self, state: ConsolidateState, zoo: Zoo, ids: list[str], rng: Rng) -> None:
        """See `ConsolidateState.grow`."""
        state.grow(zoo, ids, self.answering_teachers, rng)

    def step(self, state: ConsolidateState, teachers: Teachers, rng: Rng) -> StepReport:
        """Recover from a few teachers, ask all of them, learn."""
        report = StepReport()

        # Recover and ask, while anybody may be asked.
        if len(teachers[Role.ANSWER]):
            with state.counting():
                recovered = self._recover(state, teachers, rng, report)
                self._ask(state, teachers[Role.ANSWER], recovered, rng)

        # Catch up: teachers that joined the zoo are asked about images that were kept before.
        if state.backlog:
            with state.counting():
                state.catch_up(teachers[Role.REVIEW], self.lesson.temperature)

        # Learn: one student, all answers so far, and most of it when there are many.
        more = max(1, round((1 + LATE) * self.updates * state.progress**LATE))
        report.terms["distillation"] = self.learn(state, rng, updates=more, done=state.progress ** (1 + LATE))
        state.step += 1
        return report

    def _recover(self, state: ConsolidateState, teachers: Teachers, rng: Rng, report: StepReport) -> list[Recovered]:
        """The meta-generator shows images of the visited teachers' classes, and learns from the visits."""
        start = time.perf_counter()
        visited = teachers[Role.VISIT]
        recovered: list[Recovered] = []
        for i in range(0, len(visited), self.meta_batch):
            several = enumerate(visited[i : i + self.meta_batch], i)
            visits = [
                self._visit(state, teacher, teachers[Role.ANSWER], rng.generator("classes", number))
                for number, teacher in several
            ]
            recovered += self.recovery.recover(state.recovery, visits, rng=rng.at("visit", i), ranks=state.ranks)
        report.terms, report.images = mean_terms(recovered), sum(len(r.images) for r in recovered)
        report.recover_seconds = time.perf_counter() - start
        return recovered

    def _ask(self, state: ConsolidateState, teachers: OnDemand, recovered: list[Recovered], rng: Rng) -> None:
        """Every answering teacher answers on every image, distorted and some of them mixed."""
        images = as_bytes(self.variation(recovered, state.student.spec, rng, state.bank.images.device))
        most = max(state.questions.left(name) for name in teachers.ids)
        images = images[: int(min(most, len(images)))]  # the others nobody may be asked about
        floats = as_floats(images)

        def ask(teacher: Teacher) -> list[Tensor]:
            left = state.questions.left(teacher.card.id)
            return [state.answering.ask(teacher, floats, state.sight, self.lesson.temperature, most=left)]

        said = state.ranks.map(ask, teachers)
        state.bank.add(images, state.answering.joined(teachers.ids, [s for (s,) in said], state.sight))

    def _visit(
        self, state: ConsolidateState, teacher: Teacher, answering: OnDemand, generator: torch.Generator
    ) -> Visit:
        """To a teacher's training classes, the student in its place; none before it has learned, or without a head."""
        outputs = state.answering.outputs_of.get(teacher.card.id) if state.updates else None
        student = partial(head_of, state.student, outputs) if outputs else None
        labels = state.validation.training_labels(teacher.card, self.classes_per_visit, generator)
        among = state.questions.free if self.questions else None
        peers = answering.knowing(teacher.card.class_ids, but=teacher.card.id, among=among)
        return Visit(teacher, labels, student, peers, named=False)

    def learn(self, state: ConsolidateState, rng: Rng, *, updates: int, done: float) -> float:
        """So many updates of the student, of all that it will get a share being done; their mean loss."""
        all_asked = state.answering.per_step is None and not (state.aside or state.backlog or self.questions)
        return self.lesson.learn(state, rng, updates=updates, done=done, all_asked=all_asked)

    def learner(self, state: ConsolidateState) -> AbstractLearner:
        """Ridge regression on all heads' answers and the layer under them; on features where no answer was learned."""
        if self.answers_weight:
            return FrozenLearner(state.average, head="ridge")
        backbone = cast(AnsweringBackbone, state.average.backbone).backbone
        return FrozenLearner(Encoder(backbone, state.average.spec).eval(), head="ridge")

    def validate(self, state: ConsolidateState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        shown = partial(self.recovery.recover, state.recovery)
        cost = state.validation.images_to_come
        if any(state.questions.left(name) < cost for name in state.validation.ids):
            return {}
        with state.questions.counting(state.validation.ids, state.validation.zoo.tally, state.ranks):
            return state.validation.accuracy(self.learner(state), shown, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: ConsolidateState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the meta-generator shows of these teachers now."""
        return self.recovery.show(state.recovery, teachers, self.images_per_class, rng)
