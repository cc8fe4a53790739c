"""Single teacher: one model of the zoo, used as it is."""

import copy
from difflib import get_close_matches

from dfml.errors import InputError
from dfml.learners.frozen import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState, Role
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


class SingleTeacher(AbstractBaseline):
    """No paper of this field reports it; nearest centroids of a pre-trained network's features are the baseline of
    Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019, https://arxiv.org/abs/1904.04232.

    One teacher's backbone is taken over unchanged. A task's classes are told apart by nearest centroids of its
    features. A method that combines a zoo has to beat the mean of these over all teachers.

    *Deviations from the paper*: class means of L2-normalised features and Euclidean distance in the place of a
    cosine head that is trained on the support.

    *Deviations from the published code*: the same.

    Args:
        teacher: its id; None takes the one with the best accuracy on its own card, which needs no data.
    """

    def __init__(self, *, teacher: str | None = None):
        self.teacher = teacher

    def requires(self) -> dict[Role, Capability]:
        """A backbone to start from."""
        return {Role.START: Capability.FEATURES}

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """A copy of the teacher's backbone under nearest centroids.

        Raises:
            InputError: no such teacher, or none is named and no card gives an accuracy.
        """
        if self.teacher is not None and self.teacher not in zoo.ids:
            nearest = get_close_matches(self.teacher, zoo.ids, 1, 0.0)[0]
            raise InputError(
                f"teacher {self.teacher!r}",
                f"one of the {len(zoo.ids)} models of zoo {zoo.name}, for example {nearest}",
                "see `dfml zoo list`, or leave it out to take the best by its card",
            )
        chosen = self.teacher or best_by_card(zoo)
        backbone = copy.deepcopy(zoo.network(chosen).backbone)
        return FixedState(0, FrozenLearner(Encoder(backbone, zoo.cards[chosen].input_spec)))


def best_by_card(zoo: Zoo) -> str:
    """The id of the teacher with the best accuracy on its card; the first of equals.

    Raises:
        InputError: no card gives an accuracy.
    """
    rated = [(zoo.entry(i).accuracy["mean"], i) for i in zoo.ids if "mean" in zoo.entry(i).accuracy]
    if not rated:
        raise InputError(
            f"zoo {zoo.name}: no card gives an accuracy", "at least one that does", "name the teacher to use"
        )
    return max(rated, key=lambda pair: pair[0])[1]
