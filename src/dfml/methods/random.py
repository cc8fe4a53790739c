"""Random: the floor under every table."""

from dfml.bounds import Amount
from dfml.learners.frozen import FrozenLearner
from dfml.methods.base import AbstractBaseline, FixedState, Role
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
        network: architecture; None takes the zoo's commonest, width included.
        width: its channels; None is the architecture's usual width.
    """

    def __init__(self, *, network: str | None = None, width: Amount | None = None):
        self.network, self.width = network, width

    def requires(self) -> dict[Role, Capability]:
        """No teachers."""
        return {}

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """A fresh network for the zoo's images."""
        spec, network, width = zoo.canvas, self.network, self.width
        if network is None:
            network, usual = commonest_network(zoo)
            width = width or usual
        with rng.seeded("random"):
            backbone = build_backbone(network, image_size=spec.size, channels=spec.channels, width=width)
        return FixedState(0, FrozenLearner(Encoder(backbone, spec)))


def commonest_network(zoo: Zoo) -> tuple[str, int | None]:
    """Architecture and width that most models of the zoo have, of dfml's own; of equals the first.

    A Conv4 of its usual width in a zoo that has none.
    """
    known = [card for card in zoo.cards.values() if card.source.startswith("dfml:")]
    if not known:
        return "conv4", None
    kinds = [(card.architecture, card.options.get("width")) for card in known]
    return max(kinds, key=kinds.count)
