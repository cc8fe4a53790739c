"""A zoo with bad models among its sound ones, made on purpose: what `dfml.zoo_building.audit` is to find."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dfml.functional.noise import natural_noise
from dfml.nn import Classifier, build_backbone
from dfml.nn.norm import BatchNorm2d
from dfml.randomness import Rng
from dfml.zoo import ModelCard, Zoo, write_index

Model = tuple[ModelCard, Classifier]


@dataclass(frozen=True)
class Case:
    """One model to be spoiled.

    Args:
        zoo: the sound one.
        model: its id.
        sound: ids of models that stay as they are.
        rng: of this case alone.
        other: a zoo of another domain; None is the embedded glyphs.
    """

    zoo: Zoo
    model: str
    sound: tuple[str, ...]
    rng: Rng
    other: Zoo | None = None

    @property
    def card(self) -> ModelCard:
        """What the spoiled model claims to be."""
        return self.zoo.cards[self.model]

    @property
    def network(self) -> Classifier:
        """A copy of the sound network."""
        return copy.deepcopy(self.zoo.network(self.model))

    def pick(self, name: str, among: int) -> int:
        """One of so many."""
        return self.rng.integer(name, high=among)


def untrained(case: Case) -> Model:
    """A fresh network; every second one has seen noise in training mode, so that its BatchNorm layers look used."""
    card = case.card
    with case.rng.seeded("weights"):
        backbone = build_backbone(
            card.architecture, image_size=card.input_spec.size, width=card.options["width"], channels=3
        )
        network = Classifier(backbone, len(card.class_ids))
        if case.pick("used", 2):
            noise = card.input_spec.normalise(natural_noise(64, 3, card.input_spec.size, case.rng.generator("noise")))
            network.train()
            for _ in range(50):
                network(noise)
    return card, network.eval()


def claimed(case: Case) -> Model:
    """A sound network that claims other classes of the zoo: none of its own."""
    card, own = case.card, set(case.card.class_ids)
    others = [c for c in case.zoo.class_ids if c not in own]
    drawn = torch.randperm(len(others), generator=case.rng.generator("classes"))[: len(own)]
    ids = tuple(others[i] for i in drawn)
    return replace(card, class_ids=ids, class_names=tuple(case.zoo.index.classes[c] for c in ids)), case.network


def foreign(case: Case) -> Model:
    """A network of the other zoo that claims the classes; every second one keeps its own mean and std."""
    other, card = case.other or Zoo.open("glyphs"), case.card
    model = other.ids[case.pick("glyphs", len(other))]
    spec = other.cards[model].input_spec if case.pick("spec", 2) else card.input_spec
    return replace(card, input_spec=spec), copy.deepcopy(other.network(model))


def shuffled(case: Case) -> Model:
    """The classes in another order, at least three of them in a place of another."""
    card, draw = case.card, 0
    while True:
        order = torch.randperm(len(card.class_ids), generator=case.rng.generator("order", draw)).tolist()
        if sum(i != place for place, i in enumerate(order)) > 2:
            break
        draw += 1
    ids, names = (tuple(values[i] for i in order) for values in (card.class_ids, card.class_names))
    return replace(card, class_ids=ids, class_names=names), case.network


def normalisation(case: Case) -> Model:
    """Another mean and std on the card."""
    mean, std = ((0.0, 1.0), (0.5, 0.1), (0.0, 0.5), (0.2, 0.5))[case.pick("constants", 4)]
    return replace(case.card, input_spec=replace(case.card.input_spec, mean=(mean,) * 3, std=(std,) * 3)), case.network


def duplicate(case: Case) -> Model:
    """A sound model that comes before, once more; every second one with weights that differ in the fourth digit."""
    before = [i for i in case.sound if i < case.model] or list(case.sound)
    source = before[case.pick("source", len(before))]
    network = copy.deepcopy(case.zoo.network(source))
    if case.pick("noise", 2):
        generator = case.rng.generator("weights")
        for p in network.parameters():
            p.data *= 1 + 3e-4 * torch.randn(p.shape, generator=generator)
    return replace(case.zoo.cards[source], id=case.model), network


def constant(case: Case) -> Model:
    """One answer whatever the image: of a head of zeros, or of a last BatchNorm that lets nothing through."""
    network = case.network
    if case.pick("place", 2):
        network.head.weight.data.zero_()
    else:
        last = [m for m in network.modules() if isinstance(m, BatchNorm2d)][-1]
        last.weight.data.zero_()
        last.bias.data.fill_(-0.5)
    return case.card, network


KINDS: dict[Callable[[Case], Model], str] = {
    untrained: "untrained",
    claimed: "labels",
    foreign: "labels",
    shuffled: "labels",
    normalisation: "normalisation",
    duplicate: "duplicate",
    constant: "constant",
}
"""How a model is spoiled -> the verdict that is right."""


def spoil(
    zoo: Zoo,
    folder: Path,
    *,
    bad: int,
    rng: Rng,
    kinds: Sequence[Callable[[Case], Model]] = tuple(KINDS),
    other: Zoo | None = None,
) -> dict[str, str]:
    """Write the zoo to ``folder`` with so many bad models, of these kinds in turn.

    Args:
        zoo: the sound one.
        folder: of the new one.
        bad: how many.
        rng: decides which.
        kinds: ways to spoil a model.
        other: see `Case`.

    Returns:
        Id of each bad model -> how it was spoiled.
    """
    drawn = [zoo.ids[i] for i in torch.randperm(len(zoo), generator=rng.generator("bad"))]
    # A copy needs a sound model before it, so the first id is never among the bad ones.
    chosen = [model for model in drawn if model != min(zoo.ids)][:bad]
    sound = tuple(model for model in zoo.ids if model not in chosen)
    ways = [kinds[k % len(kinds)] for k in range(bad)]
    folder.mkdir(parents=True, exist_ok=True)
    for model in sound:
        Zoo.write_model(folder, zoo.cards[model], zoo.network(model))
    for model, way in zip(chosen, ways, strict=True):
        Zoo.write_model(folder, *way(Case(zoo, model, sound, rng.at(model), other)))
    write_index(folder, name=f"{zoo.name}-spoiled", shared_classes=True)
    return {model: way.__name__ for model, way in zip(chosen, ways, strict=True)}
