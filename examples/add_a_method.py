"""A method of your own: one network learns to answer as the teachers do. docs/extend.md says how dfml finds it."""

from dataclasses import dataclass

import torch

from dfml.bounds import StepSize
from dfml.functional.divergences import kl_divergence
from dfml.methods.base import AbstractMethod, AbstractState, Role, StepReport
from dfml.recovery import AbstractRecovery, RecoveryState, Visit
from dfml.training.meta_model import MetaModel, ModelOptions, build_meta_model
from dfml.zoo import Capability


@dataclass
class EchoState(AbstractState):
    model: MetaModel
    recovery: RecoveryState
    optimiser: torch.optim.Optimizer
    rows: dict[str, torch.Tensor]
    kept = ("model", "recovery", "optimiser")  # what a checkpoint holds


class Echo(AbstractMethod[EchoState]):
    """Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.
    *Deviations from the published code*: there is none; recovered images take the place of training data.

    Args:
        recovery: makes images from teachers.
        lr: Adam's step size.
    """

    def __init__(self, *, recovery: AbstractRecovery, lr: StepSize = 1e-3):
        self.recovery, self.lr, self.uses_data = recovery, lr, recovery.uses_data

    def requires(self):
        return {Role.VISIT: self.recovery.requires() | Capability.LOGITS}

    def init(self, zoo, rng):
        model = build_meta_model(ModelOptions(), zoo.canvas, classes=len(zoo.class_ids), rng=rng)
        optimiser = torch.optim.Adam(model.distilled_parameters().values(), lr=self.lr)
        return EchoState(0, model, self.recovery.init(zoo.canvas, rng), optimiser, {i: zoo.rows(i) for i in zoo.ids})

    def plan(self, state, zoo, rng):
        return {Role.VISIT: [(sound := state.sound(zoo.ids))[rng.integer("teacher", high=len(sound))]]}

    def step(self, state, teachers, rng):
        (teacher,) = teachers[Role.VISIT]
        labels = torch.randint(len(teacher.card.class_ids), (40,), generator=rng.generator("labels"))
        (shown,) = self.recovery.recover(state.recovery, [Visit(teacher, labels)], rng=rng.at("recover"))
        answers = state.model.train()(shown.images, state.rows[teacher.card.id])
        (loss := kl_divergence(teacher.answers(shown.images), answers)).backward()
        state.optimiser.step()
        state.optimiser.zero_grad()
        state.step += 1
        return StepReport(shown.terms | {"distillation": float(loss.detach())}, images=len(labels))

    def learner(self, state):
        return state.model.eval().learner
