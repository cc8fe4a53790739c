"""Methods: one paper, one file."""

from dfml.methods.base import AbstractMethod, AbstractState
from dfml.methods.consolidate import Consolidate
from dfml.methods.free import FREE
from dfml.methods.random import Random
from dfml.methods.single_teacher import SingleTeacher
from dfml.methods.zoo_ensemble import ZooEnsemble

METHODS: dict[str, type[AbstractMethod]] = {
    "consolidate": Consolidate,
    "free": FREE,
    "random": Random,
    "single_teacher": SingleTeacher,
    "zoo_ensemble": ZooEnsemble,
}

__all__ = [
    "FREE",
    "METHODS",
    "AbstractMethod",
    "AbstractState",
    "Consolidate",
    "Random",
    "SingleTeacher",
    "ZooEnsemble",
]
