"""PURER: episodes made of learned pixels, which get harder when the learner no longer gets better."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from dfml.bounds import Amount, Count, Decay, StepSize, Weight
from dfml.compute.devices import send
from dfml.learners import AbstractLearner, Metrics
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery import DeepInversion, Recovered
from dfml.recovery.base import Canvas
from dfml.training.feedback import Feedback
from dfml.training.meta_model import ModelOptions, build_meta_model, update_average
from dfml.training.pixel_bank import PixelBank, learned_classes
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.replay import ReplayOptions, replay, running_statistics
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

VALIDATION_STEPS = 66  # of Adam on the pixels of held-out classes


@dataclass
class PurerState(AbstractState):
    """The learner and its moving average, the learned pixels, and what the training accuracy said."""

    learner: AbstractLearner
    average: AbstractLearner
    optimiser: torch.optim.Optimizer
    bank: PixelBank
    feedback: Feedback
    validation: PseudoValidation
    zoo: Zoo
    visited: list[str]  # teachers that know a learned class
    kept = ("learner", "average", "optimiser", "bank", "feedback", "validation")


class PURER(AbstractMethod[PurerState]):
    """Hu, Shen, Wang, Liu, Yuan, Tao: "Architecture, Dataset and Model-Scale Agnostic Data-free Meta-Learning",
    CVPR 2023 (PURER). https://arxiv.org/abs/2303.11183

    A few images of every class are learned as pixels: each step moves them once, by what the visited teachers say of
    them. Pseudo-episodes of these images train the learner. When its training accuracy stops rising, the next step on
    the pixels also climbs the learner's loss on an episode of them, through its inner loop, so that tasks get harder
    (episode curriculum inversion).

    The second part of the paper, inversion calibration following the inner loop, acts when the learner adapts: the
    option ``icfil_steps`` of the learner, a reconstruction, off by default (`dfml.learners.calibration`). The paper's
    text was not at hand: what is said of it here rests on its abstract and on the published code.

    *Deviations from the paper*: pixels are kept in [0, 1], which takes the place of the L2 term; loss terms are means,
    with the weights of `DeepInversion`; teachers are drawn for each step, and they may share classes (as in the
    authors' later code, PURER-Plus); an image that several of them know gets the sum of what they say; the adversarial
    episode is made of the classes visited in that step, so that every image that is pushed is also held; no more
    classes are learned than fit into 1 GiB, and a teacher of many is shown some at a time; the head starts from
    prototypes; the result is a moving average; a validation teacher and its classes are held out to show progress.

    *Deviations from the published code*: the images of a class and its label follow one order, the teacher's (the code
    of PURER-Plus pairs them in two); the loss is the plain sum over teachers, none is counted more often than another;
    classes that no teacher of a step knows do not drift by Adam's momentum; shifts and mirroring are drawn for every
    image, not for a batch, and repeat edges instead of wrapping around; no forced adversarial step; the learner starts
    at random, not from the average of all teachers; no choice of checkpoint on test.

    Args:
        model: learner (``maml``, ``anil`` or ``protonet``) and network.
        replay: the pseudo-episodes; ``limit`` meta-batches a step (1 in the paper), of 4 ``episodes``.
        teachers_per_step: visited teachers a step (13 in the code of PURER-Plus).
        classes: at most so many are learned; of a zoo that knows more they are drawn.
        images_per_class: that are learned; None: what an episode takes of a class (the paper's).
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        start: pixels start as ``white`` noise (the paper's), or as ``natural`` noise.
        pixel_lr: Adam's step size on pixels in [0, 1] (0.25 on normalised ones in the code, with std about 0.25).
        class_weight: of the class prior.
        bn_weight: of BatchNorm alignment (relative form), with teachers that have BatchNorm.
        tv_weight: of the total variation.
        adversarial_weight: of the learner's loss; 0: tasks never get harder.
        adversarial_from: the first step that may be adversarial (4000 of 60,000 in the published code).
        patience: steps (of one meta-batch each in the paper) in a row without a better training accuracy, before the
            next step on the pixels is adversarial.
        flip: mirror images that are shown to teachers; False where that changes the class.
            None is found out by `dfml.train` (`dfml.runs.mirroring`), and True elsewhere.
        average_decay: of the moving average that is evaluated and shipped; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.
    """

    def __init__(
        self,
        *,
        model: ModelOptions | None = None,
        replay: ReplayOptions | None = None,
        teachers_per_step: Amount = 13,
        classes: Amount = 256,
        images_per_class: Amount | None = None,
        classes_per_visit: Amount = 5,
        start: Literal["white", "natural"] = "white",
        pixel_lr: StepSize = 0.0625,
        class_weight: Weight = 1.0,
        bn_weight: Weight = 10.0,
        tv_weight: Weight = 10.0,
        adversarial_weight: Weight = 10.0,
        adversarial_from: Count = 4000,
        patience: Amount = 6,
        flip: bool | None = None,
        average_decay: Decay = 0.98,
        validation_teachers: Count = 1,
        validation_episodes: Count = 40,
    ):
        self.model = model or ModelOptions("maml")
        self.replay = replay or ReplayOptions(limit=1, episodes=4)
        self.images_per_class = images_per_class or self.replay.shot + self.replay.queries
        self.teachers_per_step, self.classes, self.classes_per_visit = teachers_per_step, classes, classes_per_visit
        self.pixel_lr, self.adversarial_weight = pixel_lr, adversarial_weight
        self.adversarial_from, self.patience, self.average_decay = adversarial_from, patience, average_decay
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes
        self.inversion = DeepInversion(
            start=start,
            steps=VALIDATION_STEPS,
            class_weight=class_weight,
            bn_weight=bn_weight,
            tv_weight=tv_weight,
            flip=flip,
        )
        self.ships = "ema-last" if average_decay else "last"

    def requires(self) -> dict[Role, Capability]:
        """Gradients of the logits; layer statistics are aligned where a teacher has them."""
        return {Role.VISIT: self.inversion.requires()}

    def init(self, zoo: Zoo, rng: Rng) -> PurerState:
        """A random learner, noise in the place of images, and the choice of validation teachers."""
        validation = PseudoValidation(
            zoo,
            count=self.validation_teachers,
            images_per_class=self.images_per_class,
            needs=self.inversion.requires(),
            rng=rng,
        )
        rows = learned_classes(
            zoo,
            validation.visited_ids,
            but=validation.class_ids,
            at_most=self.classes,
            images_per_class=self.images_per_class,
            together=self.classes_per_visit,
            generator=rng.generator("classes"),
        )
        self.replay.check(classes=len(rows), capacity=self.images_per_class)
        noise = self.inversion.noise(len(rows) * self.images_per_class, zoo.canvas, rng.generator("pixels"))
        bank = PixelBank(noise.unflatten(0, (len(rows), -1)), rows, lr=self.pixel_lr)
        learner = build_meta_model(self.model, zoo.canvas, classes=1, rng=rng).learner
        optimiser = torch.optim.Adam(learner.parameters(), lr=self.replay.lr, foreach=True)
        visited = [i for i in validation.visited_ids if bank.known(zoo.rows(i))]
        state = PurerState(0, learner, copy.deepcopy(learner), optimiser, bank, Feedback(), validation, zoo, visited)
        if (there := len(zoo.class_ids) - len(validation.class_ids)) > len(rows):
            state.notes = (f"Images of {len(rows)} of {there} classes are learned, drawn (classes, and 1 GiB).",)
        return state

    def plan(self, state: PurerState, zoo: Zoo, rng: Rng) -> Plan:
        """Some teachers that know learned classes."""
        ids = state.sound(state.visited)
        drawn = torch.randperm(len(ids), generator=rng.generator("select"))[: self.teachers_per_step]
        return {Role.VISIT: [ids[i] for i in drawn.tolist()]}

    def step(self, state: PurerState, teachers: Teachers, rng: Rng) -> StepReport:
        """Move the pixels once, against the learner where it has mastered them; train the learner on episodes."""
        start, visited = time.perf_counter(), teachers[Role.VISIT]

        # Episode curriculum inversion: the gradient of sum_i L_inv(D; M_i), each teacher on the classes that it knows.
        shown = [self._classes_of(state, name, rng.generator("classes", i)) for i, name in enumerate(visited.ids)]
        told = state.ranks.map(
            lambda i: self._inversion(state, visited[i], shown[i], rng.generator("augment", i)), range(len(visited))
        )
        gradients: dict[int, Tensor] = {}
        for pairs, (_, gradient) in zip(shown, told, strict=True):
            for (_, place), own in zip(pairs, gradient, strict=True):
                gradients[place] = gradients[place] + own if place in gradients else own
        names = [name for name, weight in self.inversion.weights.items() if weight]
        report = StepReport(dict(zip(names, torch.stack([terms for terms, _ in told]).mean(0).tolist(), strict=True)))

        # Positive feedback: the learner no longer gets better at these tasks, so D climbs its outer loss, too.
        if adversarial := self._mastered(state) and len(gradients) >= self.replay.way:
            places = sorted(gradients)
            ((outer, climb),) = state.ranks.map(partial(self._outer, state, places), [rng.generator("adversarial")])
            for place, own in zip(places, climb, strict=True):
                gradients[place] = gradients[place] - self.adversarial_weight * own
            report.terms["outer"] = float(outer)
            state.feedback.reset()
        report.images = state.bank.images_per_class * sum(not state.bank.visits[place] for place in gradients)
        state.bank.follow(gradients)
        report.recover_seconds = time.perf_counter() - start

        # Meta-learning: theta descends the outer loss of episodes from D, and says how well it did.
        met, _ = replay(
            state.learner, state.bank, state.optimiser, self.replay, rng=rng.at("replay"), ranks=state.ranks
        )
        if met:
            state.feedback.hear(met["replay_accuracy"])
            update_average(state.average, state.learner, decay=self.average_decay, step=state.step)
        report.scores |= {"adversarial": float(adversarial), "waited": float(state.feedback.waited)} | met
        state.step += 1
        return report

    def _mastered(self, state: PurerState) -> bool:
        """Whether the next step on the pixels is to make tasks harder."""
        waited = state.feedback.waited >= self.patience and state.step >= self.adversarial_from
        return waited and self.adversarial_weight > 0

    def _classes_of(self, state: PurerState, teacher: str, generator: torch.Generator) -> list[tuple[int, int]]:
        """The outputs of a teacher that are visited, each with the place of its images, in the teacher's order."""
        known = state.bank.known(state.zoo.rows(teacher))
        drawn = torch.randperm(len(known), generator=generator)[: self.classes_per_visit]
        return [known[i] for i in drawn.sort().values.tolist()]

    def _inversion(
        self, state: PurerState, teacher: Teacher, shown: list[tuple[int, int]], generator: torch.Generator
    ) -> list[Tensor]:
        """The terms of L_inv, and its gradient at the images of these classes."""
        images = state.bank.images([place for _, place in shown]).detach().requires_grad_()
        labels = torch.tensor([output for output, _ in shown]).repeat_interleave(images.shape[1])
        with mixed_precision():
            terms = self.inversion.terms(teacher, images.flatten(0, 1), send(labels, images.device), generator)
        (gradient,) = torch.autograd.grad(self.inversion.total(terms), [images])
        return [torch.stack([value.detach() for value in terms.values()]), gradient]

    def _outer(self, state: PurerState, places: Sequence[int], generator: torch.Generator) -> list[Tensor]:
        """The learner's loss on an episode of these classes, and its gradient at their images, through the inner loop.

        What the learner keeps of the images that it meets, BatchNorm's running statistics, stays as it is.
        """
        size = {"way": self.replay.way, "shot": self.replay.shot, "queries": self.replay.queries}
        episode = state.bank.episode_of(places, **size, generator=generator)
        statistics = running_statistics(state.learner)
        before = [s.clone() for s in statistics]
        loss, _ = state.learner.meta_loss(episode)
        pixels = [state.bank.pixels[place] for place in places]
        gradient = torch.autograd.grad(loss, pixels, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(statistics, before)
        return [loss.detach(), torch.stack(gradient)]

    def learner(self, state: PurerState) -> AbstractLearner:
        """The moving average, or the last iterate without one."""
        return state.average if self.average_decay else state.learner

    def validate(self, state: PurerState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        shown = partial(self.inversion.recover, Canvas(state.zoo.canvas))
        return state.validation.accuracy(self.learner(state), shown, episodes=self.validation_episodes, rng=rng)

    def recovered_sheet(self, state: PurerState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """The learned images of these teachers' classes; of a teacher that is held out, some made for the sheet."""
        return [self._sheet(state, teacher, rng.at(teacher.card.id)) for teacher in teachers]

    def _sheet(self, state: PurerState, teacher: Teacher, rng: Rng) -> Recovered:
        known = self._classes_of(state, teacher.card.id, rng.generator("classes"))
        if not known:
            return self.inversion.show(Canvas(state.zoo.canvas), [teacher], self.images_per_class, rng)[0]
        images = state.bank.images([place for _, place in known]).detach()
        labels = torch.tensor([output for output, _ in known]).repeat_interleave(images.shape[1])
        return Recovered(images.flatten(0, 1), labels, {})
