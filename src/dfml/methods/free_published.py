"""FREE as its authors' code runs it: a copy with constants, so that `FREE` needs no switches."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dfml.bounds import Amount, Count
from dfml.errors import InputError
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import inner_product_distillation
from dfml.functional.inner import Parameters, sequential_displacement
from dfml.learners import AbstractLearner
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers, check_past_warm_up
from dfml.randomness import Rng
from dfml.recovery import PublishedMetaGenerator, Recovered, Visit, mean_terms
from dfml.recovery.meta_generator import MetaGeneratorState
from dfml.training.alignment import Loss
from dfml.training.bank import Bank
from dfml.training.distillation import distillation_losses, meta_logits
from dfml.training.meta_model import MetaModel, ModelOptions, build_meta_model
from dfml.training.replay import ReplayOptions, replay
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

TEACHERS, IMAGES_PER_CLASS = 4, 20  # of a step; of a class and visit
LR = 1e-3  # of the fast steps, and of the one Adam that outer update and replay share
REPTILE = 67.0  # what the displacement of the fast steps is multiplied by
BANK_CAPACITY = 400
MAML = {"head": "literal", "train_steps": 5, "test_steps": 10, "inner_lr": 0.01, "norm": "query_batch"}


@dataclass
class PublishedState(AbstractState):
    """The meta-model, the meta-generator, the bank, the optimiser, and the support of the last replayed episode."""

    model: MetaModel
    recovery: MetaGeneratorState
    bank: Bank
    optimiser: torch.optim.Optimizer
    zoo: Zoo
    last_support: list[Tensor] = field(default_factory=list)
    kept = ("model", "recovery", "bank", "optimiser")

    def state_dict(self) -> dict[str, Any]:
        """The parts, and the last replayed support."""
        return super().state_dict() | {"last_support": list(self.last_support)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        super().load_state_dict(state)
        self.last_support = [saved.to(self.bank.device) for saved in state["last_support"]]


class PublishedFREE(AbstractMethod[PublishedState]):
    """Wei, Hu, Wang, Shen, Yuan, Tao: "FREE: Faster and Better Data-Free Meta-Learning", CVPR 2024.

    https://arxiv.org/abs/2405.00984

    What the authors' code computes, to be compared with `FREE`. Its length is 999 steps. Its choice of a checkpoint by
    test accuracy is not followed.

    *Deviations from the paper*: all those of the published code. Output c of the shared head means another class for
    every teacher; the divergence is not KL, and moves the images by <p_T, p_S> alone; there is no BatchNorm term; only
    the last visited teacher's images are kept; see `PublishedMetaGenerator` for the recovery.

    *Deviations from the published code*: images stay in memory, as floored bytes, in the place of files.

    Args:
        way: outputs of every teacher, and classes of a replayed episode.
        warmup_steps: steps that train the generator alone.
        patience: meta-batches without a better training accuracy that end a step's replay.
        network: architecture of the learner.
        width: its channels; None is the architecture's usual width.
    """

    def __init__(
        self,
        *,
        way: Amount = 5,
        warmup_steps: Count = 19,
        patience: Count = 10,
        network: str = "conv4",
        width: Amount | None = None,
    ):
        self.way, self.warmup_steps, self.network, self.width = way, warmup_steps, network, width
        self.recovery, self.replay = PublishedMetaGenerator(), ReplayOptions(patience=patience, way=way, lr=LR)

    def requires(self) -> dict[Role, Capability]:
        """Gradients of the logits."""
        return {Role.VISIT: self.recovery.requires()}

    def init(self, zoo: Zoo, rng: Rng) -> PublishedState:
        """A random meta-model and an empty bank.

        Raises:
            InputError: a teacher of another number of classes than ``way``.
        """
        if other := [i for i in zoo.ids if len(zoo.entry(i).class_ids) != self.way]:
            raise InputError(
                f"{other[0]} has {len(zoo.entry(other[0]).class_ids)} classes",
                f"{self.way}, as every teacher must have under one shared head",
                "set way, or choose the recipe free",
            )
        options = ModelOptions("maml", MAML | {"way": self.way}, self.network, self.width)
        classes = len(zoo.class_ids)
        model = build_meta_model(options, zoo.canvas, classes=classes, head="literal", rng=rng)
        return PublishedState(
            step=0,
            model=model,
            recovery=self.recovery.init(zoo.canvas, rng.at("recovery")),
            bank=Bank(classes=classes, capacity=BANK_CAPACITY, shape=zoo.canvas.shape, floor=True),
            optimiser=torch.optim.Adam(model.parameters(), lr=LR, foreach=True),
            zoo=zoo,
        )

    def plan(self, state: PublishedState, zoo: Zoo, rng: Rng) -> Plan:
        """Teachers to visit, drawn with replacement."""
        ids, generator = state.sound(zoo.ids), rng.generator("select")
        return {Role.VISIT: [ids[i] for i in torch.randint(len(ids), (TEACHERS,), generator=generator).tolist()]}

    def step(self, state: PublishedState, teachers: Teachers, rng: Rng) -> StepReport:
        """Recover from some teachers, step on one after the other, replay the bank."""
        visited = list(teachers[Role.VISIT])
        warming_up = state.step < self.warmup_steps

        # The student is the learner adapted to the last replayed episode, for every teacher.
        student = None
        if state.last_support and not warming_up:
            student = state.model.learner.adapt(*state.last_support)
        start = time.perf_counter()
        labels = torch.arange(self.way).repeat(IMAGES_PER_CLASS)
        visits = [Visit(teacher, labels, student) for teacher in visited]
        recovered = self.recovery.recover(state.recovery, visits, rng=rng.at("recover"), ranks=state.ranks)
        images = sum(len(r.images) for r in recovered)
        report = StepReport(mean_terms(recovered), {}, images, recover_seconds=time.perf_counter() - start)
        report.scores["student"] = float(student is not None)
        if not warming_up:
            # Only the last visited teacher's images are kept.
            name = visited[-1].card.id
            state.bank.add(recovered[-1].images, state.zoo.rows(name)[recovered[-1].labels], state.zoo.number_of[name])
            report.terms["distillation"] = self._align(state, visited, recovered, rng)
            replayed, last = replay(
                state.model.learner, state.bank, state.optimiser, self.replay, rng=rng.at("replay"), ranks=state.ranks
            )
            report.scores |= replayed
            if last is not None:
                state.last_support = [last.support_x, last.support_y]
        state.step += 1
        return report

    def _align(self, state: PublishedState, teachers: list[Teacher], recovered: list[Recovered], rng: Rng) -> float:
        """One Adam step on each teacher; the shared Adam follows 67 times the displacement. The mean loss."""
        rows, questions = torch.arange(self.way, device=state.bank.device), []
        for i, teacher in enumerate(teachers):
            shown = shift_and_flip(recovered[i].images, rng.at("tasks", 0).generator("augment", i))
            questions.append((teacher, shown, rows))
        losses: list[Loss] = distillation_losses(
            state.model, questions, state.ranks, logits=meta_logits, divergence=inner_product_distillation
        )
        losses = [losses[i] for i in torch.randperm(len(losses), generator=rng.generator("order", 0)).tolist()]
        parameters: Parameters = dict(state.model.distilled_parameters())
        state.model.train()
        direction, met = sequential_displacement(losses, parameters, lr=LR, optimiser=torch.optim.Adam)
        state.model.eval()
        state.optimiser.zero_grad()
        for name, p in parameters.items():
            p.grad = direction[name] * (REPTILE * LR)
        state.optimiser.step()
        return float(met.mean())

    def learner(self, state: PublishedState) -> AbstractLearner:
        """MAML at the last iterate.

        Raises:
            InputError: the run ended in its warm-up, so that the learner is still random.
        """
        check_past_warm_up(state.step, self.warmup_steps)
        return state.model.learner

    def recovered_sheet(self, state: PublishedState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the meta-generator shows of these teachers now."""
        return self.recovery.show(state.recovery, teachers, IMAGES_PER_CLASS, rng)
