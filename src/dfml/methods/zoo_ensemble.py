"""Zoo ensemble: all models of the zoo at once, the ceiling that no paper of this field reports."""

import copy
from typing import ClassVar, Literal

from dfml.learners.frozen import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState
from dfml.nn import AnsweringBackbone, Encoder
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import LocalTeacher


class ZooEnsemble(AbstractBaseline):
    """No paper of this field reports it; joining the features of many networks is the idea of Dvornik, Schmid, Mairal,
    "Selecting Relevant Features from a Multi-domain Representation for Few-shot Classification", ECCV 2020,
    https://arxiv.org/abs/2003.09338.

    Every teacher is kept. A task's classes are told apart by nearest centroids of all backbones' features, each
    L2-normalised, concatenated; or of what all teachers answer. It costs as many networks at inference as the zoo has
    models.

    *Deviations from the paper*: features are joined, none are selected on the support.

    *Deviations from the published code*: the same.

    Args:
        compare: ``features``, as the tables of this field would; or ``answers``, the square roots of the teachers'
            probabilities (`AnsweringBackbone`).
        head: ``centroid``, or ``ridge`` regression on the support.
    """

    requires: ClassVar[Capability] = Capability.FEATURES

    def __init__(
        self,
        *,
        compare: Literal["features", "answers"] = "features",
        head: Literal["centroid", "ridge"] = "centroid",
    ):
        self.compare, self.head = compare, head

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """Copies of all teachers under one head."""
        return FixedState(0, FrozenLearner([self._encoder(zoo.teacher(i)) for i in zoo.ids], head=self.head))

    def _encoder(self, teacher: LocalTeacher) -> Encoder:
        network = copy.deepcopy(teacher.network)
        if self.compare == "features":
            return Encoder(network.backbone, teacher.card.input_spec)
        answering = AnsweringBackbone(network.backbone, [len(teacher.card.class_ids)])
        answering.heads = network.head
        return Encoder(answering.eval(), teacher.card.input_spec)
