"""Methods: one paper, one file."""

from dfml.methods.average import Average
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.methods.consolidate import Consolidate
from dfml.methods.free import FREE
from dfml.methods.free_published import PublishedFREE
from dfml.methods.oracle_b import OracleB
from dfml.methods.purer import PURER
from dfml.methods.random import Random
from dfml.methods.single_teacher import SingleTeacher
from dfml.methods.tgr import TGR
from dfml.methods.zoo_ensemble import ZooEnsemble

METHODS: dict[str, type[AbstractMethod]] = {
    "average": Average,
    "consolidate": Consolidate,
    "free": FREE,
    "free_published": PublishedFREE,
    "oracle_b": OracleB,
    "purer": PURER,
    "random": Random,
    "single_teacher": SingleTeacher,
    "tgr": TGR,
    "zoo_ensemble": ZooEnsemble,
}

__all__ = [
    "FREE",
    "METHODS",
    "PURER",
    "TGR",
    "AbstractMethod",
    "AbstractState",
    "Average",
    "Consolidate",
    "OracleB",
    "PublishedFREE",
    "Random",
    "SingleTeacher",
    "ZooEnsemble",
]
