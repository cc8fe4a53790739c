"""The zoo: cards, teachers and the store."""

from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.index import write_index
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import LocalTeacher, Teacher

__all__ = [
    "Capability",
    "LocalTeacher",
    "ModelCard",
    "Teacher",
    "Zoo",
    "write_index",
]
