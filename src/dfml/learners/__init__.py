"""Learners: what adapts to a task, and the predictor that adapting gives."""

from collections.abc import Callable
from functools import partial

from dfml.learners.base import AbstractLearner, Metrics, Predictor
from dfml.learners.centroid import CentroidLearner
from dfml.learners.maml import MAML
from dfml.learners.protonet import ProtoNet

LEARNERS: dict[str, Callable[..., AbstractLearner]] = {
    "maml": MAML,
    "anil": partial(MAML, adapts="head"),
    "protonet": ProtoNet,
    "centroid": CentroidLearner,
}
"""By name; each is called with an encoder and its own keyword-only options."""

__all__ = ["LEARNERS", "MAML", "AbstractLearner", "CentroidLearner", "Metrics", "Predictor", "ProtoNet"]
