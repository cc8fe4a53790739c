"""DF-MAML and DF-ProtoNet: recover from random models, train on episodes from memory, and nothing else."""

import torch

from dfml.errors import InputError
from dfml.learners import AbstractLearner
from dfml.methods.base import Plan, Role, StepReport, Teachers
from dfml.methods.from_bank import AbstractFromBank, BankState
from dfml.randomness import Rng
from dfml.zoo.store import Zoo


class MemoryReplay(AbstractFromBank):
    """The baselines "DF-MAML" and "DF-ProtoNet" of Hu et al.: "Task-Distributionally Robust Data-Free Meta-Learning"
    (TEAPOT), https://arxiv.org/abs/2311.14756; the learner of the recipe says which of them.

    Every step recovers images from a few random models and stores them in a memory. The learner is then trained on
    episodes from the memory, which mix classes of all models visited so far. The models teach by their images alone:
    nothing they answer is distilled, so what is lost against `FREE` is what alignment adds.

    *Deviations from the paper*: the meta-generator of FREE may make the images, in the place of a generator that is
    trained anew for each model; a validation teacher is held out; the result is a moving average.

    *Deviations from the published code*: it does not run (names that nobody defined), so that its behaviour is read off
    its intention; images are augmented one by one, and stored as rounded bytes in memory.

    Args:
        recovery: how images are made.
        model: learner (``maml`` or ``protonet``) and network.
        replay: episodes from the memory; its patience is the time between two visits.
        teachers_per_step: random models that are visited in a step.
        images_per_class: recovered images per class and visit.
        classes_per_visit: of a teacher that knows more, so many are drawn for a visit.
        bank_capacity: images kept per class; the oldest make room.
        average_decay: of the moving average that is shipped, per step; 0: the last iterate.
        validation_teachers: held out with their classes.
        validation_episodes: pseudo-episodes of one validation.
    """

    def plan(self, state: BankState, zoo: Zoo, rng: Rng) -> Plan:
        """Random models."""
        ids = state.sound(state.validation.visited_ids)
        drawn = torch.randperm(len(ids), generator=rng.generator("select"))[: self.teachers_per_step]
        return {Role.VISIT: [ids[i] for i in drawn.tolist()]}

    def step(self, state: BankState, teachers: Teachers, rng: Rng) -> StepReport:
        """Recover from some models, then train on what all gave so far."""
        # Generate: the visited models' images go to memory.
        report = self._recover(state, list(teachers[Role.VISIT]), rng)

        # Replay: the learner sees episodes from memory alone.
        report.scores |= self._meta_train(state, rng)
        state.step += 1
        return report

    def learner(self, state: BankState) -> AbstractLearner:
        """The moving average.

        Raises:
            InputError: the memory was never large enough for an episode.
        """
        if not state.trained:
            raise InputError(
                f"a run of {state.step} steps, with images of {len(state.bank.ready(1))} classes",
                f"{self.replay.way} classes with {self.replay.shot + self.replay.queries} images",
                "go on with more minutes or steps, raise images_per_class, or lower replay.way, shot and queries",
            )
        return state.average
