"""A small image set and a small zoo in memory, with BatchNorm statistics that are not the initial ones."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dfml.data.image_set import ImageSet
from dfml.nn import BatchNorm2d, Classifier, Encoder, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.zoo import Zoo
from dfml.zoo.card import ModelCard
from dfml.zoo.index import Entry, Index
from dfml.zoo.teacher import LocalTeacher

SPEC = InputSpec(size=16)


def lively(network: nn.Module, seed: int) -> nn.Module:
    """Gives every BatchNorm statistics and scales of its own."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 1.5),
                (layer.weight.data, 0.5, 1.5),
                (layer.bias.data, -0.2, 0.2),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network


def make_encoder(seed: int, architecture: str = "conv4") -> Encoder:
    torch.manual_seed(seed)
    return lively(Encoder(build_backbone(architecture, image_size=16, width=8), SPEC), seed)  # type: ignore[return-value]


def make_teacher(name: str, seed: int, accuracy: dict | None = None) -> LocalTeacher:
    encoder = make_encoder(seed)
    names = (f"train {seed}", f"train {seed + 1}")
    card = ModelCard(name, "dfml:conv4", names, names, SPEC, "0" * 64, {"width": 8}, accuracy or {})
    return LocalTeacher(card, Classifier(encoder.backbone, 2))


class FakeZoo(Zoo):
    """What the baselines use of a zoo."""

    name, canvas = "fake", SPEC

    def __init__(self, teachers: list[LocalTeacher]):
        self._teachers = {t.card.id: t for t in teachers}
        self.cards = {i: t.card for i, t in self._teachers.items()}
        self.ids, self.aside = list(self._teachers), {}
        self._entries = {i: Entry(i, c.source, c.class_ids, c.sha256, c.accuracy) for i, c in self.cards.items()}
        names = {c: c for card in self.cards.values() for c in card.class_ids}
        self.index = Index("fake", True, classes=names, models=tuple(self._entries.values()))

    def teacher(self, name: str) -> LocalTeacher:
        return self._teachers[name]


@pytest.fixture
def encoders() -> list[Encoder]:
    return [make_encoder(seed) for seed in range(3)]


@pytest.fixture
def zoo() -> FakeZoo:
    return FakeZoo([make_teacher(f"m{i}", i, {"mean": 80.0 + i % 2, "ci95": 1.0, "n": 100}) for i in range(3)])


@pytest.fixture
def image_set() -> ImageSet:
    """8 classes of 12 images, each class a noisy pattern of its own."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(8, 1, 3, 16, 16, generator=generator)
    images = (0.35 * patterns + 0.65 * torch.rand(8, 12, 3, 16, 16, generator=generator)).flatten(0, 1)
    labels = torch.arange(8).repeat_interleave(12)
    return ImageSet("patterns", (255 * images).byte(), labels, tuple(f"test {c}" for c in range(8)))


@pytest.fixture
def rng() -> Rng:
    return Rng(0)


@pytest.fixture
def make() -> SimpleNamespace:
    return SimpleNamespace(encoder=make_encoder, teacher=make_teacher, zoo=FakeZoo, lively=lively)
