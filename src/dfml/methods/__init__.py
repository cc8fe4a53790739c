"""Methods: one paper, one file."""

from dfml.methods.average import Average
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.methods.bidf_mkd import BiDfMKD
from dfml.methods.consolidate import Consolidate
from dfml.methods.free import FREE
from dfml.methods.free_published import PublishedFREE
from dfml.methods.oracle_b import OracleB
from dfml.methods.random import Random
from dfml.methods.single_teacher import SingleTeacher
from dfml.methods.zoo_ensemble import ZooEnsemble

METHODS: dict[str, type[AbstractMethod]] = {
    "average": Average,
    "bidf_mkd": BiDfMKD,
    "consolidate": Consolidate,
    "free": FREE,
    "free_published": PublishedFREE,
    "oracle_b": OracleB,
    "random": Random,
    "single_teacher": SingleTeacher,
    "zoo_ensemble": ZooEnsemble,
}

__all__ = [
    "FREE",
    "METHODS",
    "AbstractMethod",
    "AbstractState",
    "Average",
    "BiDfMKD",
    "Consolidate",
    "OracleB",
    "PublishedFREE",
    "Random",
    "SingleTeacher",
    "ZooEnsemble",
]
