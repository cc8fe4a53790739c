"""Random: the floor under every table."""

from typing import ClassVar

import torch

from dfml.learners.frozen import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState
from dfml.nn import Encoder, build_backbone
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


class Random(AbstractBaseline):
    """The "Random" row of the data-free meta-learning papers (for example Wang et al., "Meta-learning without data
    via Wasserstein distributionally-robust model fusion", UAI 2022, https://openreview.net/forum?id=Hq8Ug88j5ec).

    A randomly initialised network is never trained. A task's classes are told apart by nearest centroids of its
    features. What a method scores above this row is what it learned.

    *Deviations from the papers*: nearest centroids in the place of ten gradient steps, so that it is compared with
    the zoo's own features on equal terms.

    *Deviations from the published code*: the same.

    Args:
        network: architecture; None takes that of the zoo's first model, width included.
        width: its channels; None is the architecture's usual width.
    """

    requires: ClassVar[Capability] = Capability(0)

    def __init__(self, *, network: str | None = None, width: int | None = None):
        self.network, self.width = network, width

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """A fresh network for the zoo's images."""
        card, spec = zoo.cards[zoo.ids[0]], zoo.input_spec
        network, width = (self.network, self.width) if self.network else (card.architecture, self.width or card.width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.integer("random"))
            backbone = build_backbone(network, image_size=spec.size, channels=spec.channels, width=width)
        return FixedState(0, FrozenLearner(Encoder(backbone, spec)))
