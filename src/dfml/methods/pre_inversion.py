"""Pre-inversion: invert every model once, then meta-train on what came out."""

import torch

from dfml.errors import InputError
from dfml.learners import AbstractLearner
from dfml.methods.base import Plan, Role, StepReport, Teachers
from dfml.methods.from_bank import AbstractFromBank, BankState
from dfml.randomness import Rng
from dfml.zoo.store import Zoo


class PreInversion(AbstractFromBank):
    """The baseline "pre-inversion" of Hu et al.: "Task-Distributionally Robust Data-Free Meta-Learning" (TEAPOT),
    https://arxiv.org/abs/2311.14756, whose images come from DeepInversion (Yin et al., CVPR 2020).

    Every model of the zoo is inverted once, before anything is learned. The images of all models make one pool, and a
    plain meta-learner is trained on episodes that mix its classes. Nothing is distilled, and no image is made anew, so
    what a model was not asked at the start is never learned from it.

    *Deviations from the paper*: models that know a class share its images in the pool, a few models are inverted in a
    step so that the work is clocked and resumed, and a validation teacher is held out; the result is a moving average.

    *Deviations from the published code*: the terms of the inversion are means with weights of their own
    (`DeepInversion`); images are augmented one by one; MAML's literal head is replaced by one from prototypes; the
    losses of a meta-batch are summed, not averaged (Adam does not see the difference).

    Args:
        recovery: how images are made; DeepInversion in the paper.
        model: learner (``maml``, ``anil`` or ``protonet``) and network.
        replay: episodes from the bank.
        teachers_per_step: models that are inverted in a step, until all are.
        images_per_class: of a model's class; as many as an episode needs, at least.
        classes_per_visit: of a teacher that knows more, so many are drawn.
        bank_capacity: images kept per class.
        average_decay: of the moving average that is shipped, per step; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.
    """

    def plan(self, state: BankState, zoo: Zoo, rng: Rng) -> Plan:
        """The next models to invert; none when all are."""
        return {Role.VISIT: self._left(state)[: self.teachers_per_step]}

    def _left(self, state: BankState) -> list[str]:
        """Models to be inverted, in an order that mixes the zoo's parts."""
        ids = state.validation.visited_ids
        order = torch.randperm(len(ids), generator=Rng(0).generator("order")).tolist()
        wanted = set(state.sound(ids)) - set(state.inverted)
        return [ids[i] for i in order if ids[i] in wanted]

    def step(self, state: BankState, teachers: Teachers, rng: Rng) -> StepReport:
        """Invert a few models, or train on the pool when there is none left."""
        if teachers[Role.VISIT]:
            # First: each model is inverted, once.
            report = self._recover(state, list(teachers[Role.VISIT]), rng)
        else:
            # Then: episodes from the pool, in the place of real ones.
            report = StepReport(scores=self._meta_train(state, rng))
        state.step += 1
        return report

    def learner(self, state: BankState) -> AbstractLearner:
        """The moving average.

        Raises:
            InputError: the run ended before the learner was trained.
        """
        if not state.trained:
            left = len(self._left(state))
            raise InputError(
                f"a run of {state.step} steps, in which {len(state.inverted)} models were inverted and {left} are left",
                "all of them inverted, and some steps more, so that the learner has learned something",
                "go on with more minutes or steps, lower recovery.steps, or lower replay.way, shot and queries",
            )
        return state.average
