"""Zoo ensemble: all models of the zoo at once, the ceiling that no paper of this field reports."""

import copy
from typing import ClassVar

from dfml.learners.centroid import CentroidLearner
from dfml.methods.base import AbstractBaseline, FixedState
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


class ZooEnsemble(AbstractBaseline):
    """No paper of this field reports it; joining the features of many networks is the idea of Dvornik, Schmid, Mairal,
    "Selecting Relevant Features from a Multi-domain Representation for Few-shot Classification", ECCV 2020,
    https://arxiv.org/abs/2003.09338.

    Every teacher's backbone is kept. A task's classes are told apart by nearest centroids of all backbones' features,
    each L2-normalised, concatenated. It costs as many networks at inference as the zoo has models.

    *Deviations from the paper*: features are joined, none are selected on the support.

    *Deviations from the published code*: the same.
    """

    requires: ClassVar[Capability] = Capability.FEATURES

    def __init__(self) -> None:
        pass

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """Copies of all backbones under nearest centroids."""
        teachers = (zoo.teacher(i) for i in zoo.ids)
        return FixedState(0, CentroidLearner([Encoder(copy.deepcopy(t.backbone), t.card.input_spec) for t in teachers]))
