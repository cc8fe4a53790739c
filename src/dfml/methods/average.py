"""Average: the mean of all models' parameters."""

import copy

import torch

from dfml.learners.frozen import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState, Role
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.training.weights import check_one_architecture, float_tensors
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


class Average(AbstractBaseline):
    """The "Average" row of the data-free meta-learning papers (for example Wang et al., "Meta-learning without data
    via Wasserstein distributionally-robust model fusion", UAI 2022, https://openreview.net/forum?id=Hq8Ug88j5ec).

    One backbone whose parameters and BatchNorm statistics are the means over all teachers. A task's classes are told
    apart by nearest centroids of its features. Networks that were trained apart have no common order of channels, so
    it is a floor, not a contender.

    *Deviations from the papers*: nearest centroids in the place of ten gradient steps.

    *Deviations from the published code*: heads are not averaged, since their outputs mean different classes.
    """

    def requires(self) -> dict[Role, Capability]:
        """Weights to start from."""
        return {Role.START: Capability.WHITE_BOX}

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """The mean backbone under nearest centroids.

        Raises:
            InputError: teachers of different architectures or widths, or that are not dfml's own.
        """
        check_one_architecture(zoo)
        mean = copy.deepcopy(zoo.network(zoo.ids[0]).backbone)
        total = list(float_tensors(mean).values())
        with torch.no_grad():
            for name in zoo.ids[1:]:
                torch._foreach_add_(total, list(float_tensors(zoo.network(name).backbone).values()))
            torch._foreach_div_(total, len(zoo.ids))
        return FixedState(0, FrozenLearner(Encoder(mean, zoo.canvas)))
