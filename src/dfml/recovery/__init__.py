"""Ways to recover images from teachers."""

from dfml.recovery.base import AbstractRecovery, Recovered, Student, mean_terms
from dfml.recovery.deep_inversion import DeepInversion
from dfml.recovery.meta_generator import MetaGenerator
from dfml.recovery.real_images import RealImages

RECOVERIES: dict[str, type[AbstractRecovery]] = {
    "deep_inversion": DeepInversion,
    "meta_generator": MetaGenerator,
    "real_images": RealImages,
}

__all__ = [
    "RECOVERIES",
    "AbstractRecovery",
    "DeepInversion",
    "MetaGenerator",
    "RealImages",
    "Recovered",
    "Student",
    "mean_terms",
]
