"""The zoo: cards, teachers, the store, and the training of one teacher."""

from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.index import write_index
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import LocalTeacher, Teacher
from dfml.zoo.train_one import held_out_accuracy, train_classifier

__all__ = [
    "Capability",
    "LocalTeacher",
    "ModelCard",
    "Teacher",
    "Zoo",
    "held_out_accuracy",
    "train_classifier",
    "write_index",
]
