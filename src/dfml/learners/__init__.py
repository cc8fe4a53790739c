"""Learners: what adapts to a task, and the predictor that adapting gives."""

from collections.abc import Callable
from functools import cache, partial

from dfml.announced import with_announced
from dfml.learners.base import AbstractLearner, Metrics, Predictor
from dfml.learners.frozen import FrozenLearner
from dfml.learners.maml import MAML
from dfml.learners.protonet import ProtoNet

LEARNERS: dict[str, Callable[..., AbstractLearner]] = {
    "maml": MAML,
    "anil": partial(MAML, adapts="head"),
    "protonet": ProtoNet,
    "centroid": FrozenLearner,
    "ridge": partial(FrozenLearner, head="ridge"),
}
"""By name; each is called with an encoder and its own keyword-only options."""


@cache
def learners() -> dict[str, Callable[..., AbstractLearner]]:
    """`LEARNERS`, with those that other packages announce in the entry-point group ``dfml.learners``."""
    return with_announced(LEARNERS, "dfml.learners")


__all__ = ["LEARNERS", "MAML", "AbstractLearner", "FrozenLearner", "Metrics", "Predictor", "ProtoNet", "learners"]
