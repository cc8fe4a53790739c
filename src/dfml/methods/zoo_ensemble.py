"""Zoo ensemble: all models of the zoo at once, the ceiling that no paper of this field reports."""

import copy
from typing import Literal

from dfml.bounds import Amount
from dfml.errors import InputError
from dfml.learners.frozen import FrozenLearner, HeadName
from dfml.methods.base import AbstractBaseline, FixedState, Role
from dfml.nn import AnsweringBackbone, Encoder, InputSpec, SideBySide
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


class ZooEnsemble(AbstractBaseline):
    """No paper of this field reports it; joining the features of many networks is the idea of Dvornik, Schmid, Mairal,
    "Selecting Relevant Features from a Multi-domain Representation for Few-shot Classification", ECCV 2020,
    https://arxiv.org/abs/2003.09338.

    Every teacher is kept, or some of them. A task's classes are told apart by nearest centroids of all backbones'
    features, each L2-normalised, concatenated; or of what all teachers answer. It costs as many networks at inference
    as it has teachers.

    *Deviations from the paper*: features are joined, none are selected on the support.

    *Deviations from the published code*: the same.

    Args:
        compare: ``features``, as the tables of this field would; or ``answers``, the square roots of the teachers'
            probabilities (`AnsweringBackbone`); or ``posterior``, the answers joined by what all teachers say together,
            which is best where teachers share classes.
        head: nearest ``centroid``, ``ridge`` or ``logistic`` regression on the support.
        models: so many teachers, chosen greedily by what the zoo says of itself (`covering`); None is all of them.
    """

    def __init__(
        self,
        *,
        compare: Literal["features", "answers", "posterior"] = "features",
        head: HeadName = "centroid",
        models: Amount | None = None,
    ):
        self.compare, self.head, self.models = compare, head, models

    def requires(self) -> dict[Role, Capability]:
        """Networks to start from; their features where these are compared."""
        return {Role.START: Capability.FEATURES if self.compare == "features" else Capability.LABELS}

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """Copies of the teachers under one head.

        Raises:
            InputError: too many ``models``.
        """
        ids = zoo.ids if self.models is None else covering(zoo, self.models)
        if self.compare == "posterior":
            return FixedState(0, FrozenLearner(_together(zoo, ids), head=self.head))
        return FixedState(0, FrozenLearner([self._encoder(zoo, i) for i in ids], head=self.head))

    def _encoder(self, zoo: Zoo, model: str) -> Encoder:
        network, spec = copy.deepcopy(zoo.network(model)), zoo.cards[model].input_spec
        if self.compare == "features":
            return Encoder(network.backbone, spec)
        answering = AnsweringBackbone(network.backbone, [range(network.classes)], heads=network.head)
        return Encoder(answering.eval(), spec)


def _together(zoo: Zoo, ids: list[str]) -> Encoder:
    """One encoder of all these teachers' answers and their joint posterior.

    Where their images differ, it takes images as large as the largest, and each teacher fits them.
    """
    specs = [zoo.cards[i].input_spec for i in ids]
    networks = [copy.deepcopy(zoo.network(i)) for i in ids]
    classes = [zoo.rows(i).tolist() for i in ids]
    if len(set(specs)) == 1:
        return Encoder(AnsweringBackbone(SideBySide(networks), classes, heads=False).eval(), specs[0])
    channels = max(spec.channels for spec in specs)
    bare = InputSpec(channels, max(max(spec.shape[1:]) for spec in specs), (0.0,) * channels, (1.0,) * channels)
    return Encoder(AnsweringBackbone(SideBySide(networks, specs), classes, heads=False).eval(), bare)


def covering(zoo: Zoo, count: int) -> list[str]:
    """So many models of a zoo, without data: each adds the classes that fewest of those before it know.

    Of equals the best by its card comes first.

    Raises:
        InputError: more than the zoo has, or none.
    """
    if not 1 <= count <= len(zoo):
        raise InputError(f"{count} models of zoo {zoo.name}", f"1 to {len(zoo)}", "change --models")
    left, known = {i: zoo.entry(i) for i in zoo.ids}, dict.fromkeys(zoo.class_ids, 0)
    chosen: list[str] = []
    for _ in range(count):
        gain = {i: sum(0.5 ** known[c] for c in e.class_ids) for i, e in left.items()}
        best = max(left, key=lambda i: (gain[i], left[i].accuracy.get("mean", 0.0)))
        for c in left.pop(best).class_ids:
            known[c] += 1
        chosen.append(best)
    return chosen
