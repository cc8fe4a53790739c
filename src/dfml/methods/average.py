"""Average: the mean of all models' parameters."""

import copy

import torch

from dfml.errors import InputError
from dfml.learners.frozen import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState, Role
from dfml.nn import Encoder
from dfml.nn.description import short_name
from dfml.randomness import Rng
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
        if foreign := [i for i in zoo.ids if not zoo.entry(i).source.startswith("dfml:")]:
            raise InputError(
                f"zoo {zoo.name} with {foreign[0]}, a model of {zoo.entry(foreign[0]).source}",
                "networks of dfml's own, whose weights lie open",
                "choose another method",
            )
        kinds = sorted({short_name(zoo.network(i).backbone) for i in zoo.ids})
        if len(kinds) > 1:
            names = ", ".join(kinds)
            raise InputError(f"zoo {zoo.name} with {names}", "one architecture and width", "choose another method")
        mean = copy.deepcopy(zoo.network(zoo.ids[0]).backbone)
        with torch.no_grad():
            for name in zoo.ids[1:]:
                for total, other in zip(_floats(mean), _floats(zoo.network(name).backbone), strict=True):
                    total += other
            for total in _floats(mean):
                total /= len(zoo.ids)
        return FixedState(0, FrozenLearner(Encoder(mean, zoo.canvas)))


def _floats(network: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, BatchNorm's counters left out."""
    return [t for t in network.state_dict().values() if t.is_floating_point()]
