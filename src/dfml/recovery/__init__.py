"""Ways to recover images from teachers."""

from dfml.recovery.base import AbstractRecovery, Recovered, Student, mean_terms
from dfml.recovery.meta_generator import MetaGenerator

RECOVERIES = {"meta_generator": MetaGenerator}

__all__ = ["RECOVERIES", "AbstractRecovery", "MetaGenerator", "Recovered", "Student", "mean_terms"]
