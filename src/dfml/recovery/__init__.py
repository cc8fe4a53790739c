"""Ways to recover images from teachers."""

from dfml.recovery.base import (
    AbstractRecovery,
    Canvas,
    Recovered,
    RecoveryState,
    Student,
    UsesData,
    Visit,
    mean_terms,
)
from dfml.recovery.by_teacher import ByTeacher
from dfml.recovery.deep_inversion import DeepInversion
from dfml.recovery.drawn_images import DrawnImages
from dfml.recovery.meta_generator import MetaGenerator
from dfml.recovery.published_generator import PublishedMetaGenerator
from dfml.recovery.real_images import RealImages
from dfml.recovery.unlabelled import Unlabelled
from dfml.recovery.zeroth_order import ZerothOrder

RECOVERIES: dict[str, type[AbstractRecovery]] = {
    "by_teacher": ByTeacher,
    "deep_inversion": DeepInversion,
    "drawn_images": DrawnImages,
    "meta_generator": MetaGenerator,
    "published_generator": PublishedMetaGenerator,
    "real_images": RealImages,
    "unlabelled": Unlabelled,
    "zeroth_order": ZerothOrder,
}

__all__ = [
    "RECOVERIES",
    "AbstractRecovery",
    "ByTeacher",
    "Canvas",
    "DeepInversion",
    "DrawnImages",
    "MetaGenerator",
    "PublishedMetaGenerator",
    "RealImages",
    "Recovered",
    "RecoveryState",
    "Student",
    "Unlabelled",
    "UsesData",
    "Visit",
    "ZerothOrder",
    "mean_terms",
]
