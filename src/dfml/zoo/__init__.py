"""The zoo: cards, teachers and the store."""

from dfml.zoo.adding import add
from dfml.zoo.adding_http import add_http
from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.index import write_index
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Forward, LocalTeacher, Teacher
from dfml.zoo.told import Told
from dfml.zoo.views import BlackBox, Counted, Tally

__all__ = [
    "BlackBox",
    "Capability",
    "Counted",
    "Forward",
    "LocalTeacher",
    "ModelCard",
    "Tally",
    "Teacher",
    "Told",
    "Zoo",
    "add",
    "add_http",
    "write_index",
]
