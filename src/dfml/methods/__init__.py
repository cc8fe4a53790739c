"""Methods: one paper, one file."""

from dfml.methods.average import Average
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.methods.bidf_mkd import BiDfMKD
from dfml.methods.consolidate import Consolidate
from dfml.methods.dro import DRO
from dfml.methods.free import FREE
from dfml.methods.free_published import PublishedFREE
from dfml.methods.memory_replay import MemoryReplay
from dfml.methods.oracle_b import OracleB
from dfml.methods.ota import OTA
from dfml.methods.pre_inversion import PreInversion
from dfml.methods.purer import PURER
from dfml.methods.random import Random
from dfml.methods.single_teacher import SingleTeacher
from dfml.methods.teapot import TEAPOT
from dfml.methods.tgr import TGR
from dfml.methods.zoo_ensemble import ZooEnsemble

METHODS: dict[str, type[AbstractMethod]] = {
    "average": Average,
    "bidf_mkd": BiDfMKD,
    "consolidate": Consolidate,
    "dro": DRO,
    "free": FREE,
    "free_published": PublishedFREE,
    "memory_replay": MemoryReplay,
    "oracle_b": OracleB,
    "purer": PURER,
    "ota": OTA,
    "pre_inversion": PreInversion,
    "random": Random,
    "single_teacher": SingleTeacher,
    "tgr": TGR,
    "teapot": TEAPOT,
    "zoo_ensemble": ZooEnsemble,
}

__all__ = [
    "DRO",
    "FREE",
    "METHODS",
    "OTA",
    "PURER",
    "TEAPOT",
    "TGR",
    "AbstractMethod",
    "AbstractState",
    "Average",
    "BiDfMKD",
    "Consolidate",
    "MemoryReplay",
    "OracleB",
    "PreInversion",
    "PublishedFREE",
    "Random",
    "SingleTeacher",
    "ZooEnsemble",
]
