"""Small teachers and encoders for tests."""

import torch
from torch import nn

from dfml.methods.base import teachers_of
from dfml.nn import Classifier, Encoder, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.zoo import Zoo
from dfml.zoo.card import ModelCard
from dfml.zoo.index import Entry
from dfml.zoo.teacher import LocalTeacher
from dfml.zoo.views import Counted, Tally

SPEC = InputSpec(size=16)


def toy_teacher(
    name: str = "toy", class_ids: tuple[str, ...] = ("a", "b", "c"), seed: int = 0, width: int = 4
) -> LocalTeacher:
    """A Conv4 of width 4 on 16-pixel images, briefly trained to tell colours apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Classifier(build_backbone("conv4", image_size=16, width=width), len(class_ids))
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        colours = torch.rand(len(class_ids), 3, 1, 1)
        for _ in range(60):
            labels = torch.randint(len(class_ids), (32,))
            images = (colours[labels] + 0.3 * torch.randn(32, 3, 16, 16)).clamp(0, 1)
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(SPEC.normalise(images)), labels).backward()
            optimiser.step()
    accuracy = {"mean": 90.0 + seed, "ci95": 1.0, "n": 100}
    card = ModelCard(name, "dfml:conv4", class_ids, class_ids, SPEC, "", {"width": width}, accuracy)
    return LocalTeacher(card, network)


def toy_encoder(seed: int = 0, width: int = 4) -> Encoder:
    """An untrained Conv4 on 16-pixel images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder(build_backbone("conv4", image_size=16, width=width), SPEC).eval()


CLASSES = [("a", "b", "c"), ("c", "d", "e"), ("f", "a", "d"), ("e", "b", "f"), ("g", "h", "c")]


class ToyZoo(Zoo):
    """Five teachers over eight classes."""

    def __init__(self):
        self.tally, self.told = Tally(), None
        own = [toy_teacher(f"t{i}", ids, seed=i) for i, ids in enumerate(CLASSES)]
        self.teachers = {teacher.card.id: Counted(teacher, self.tally) for teacher in own}
        self.name, self.ids, self.aside = "toys", list(self.teachers), {}
        self.cards = {name: t.card for name, t in self.teachers.items()}
        self._entries = {n: Entry(n, c.source, c.class_ids, c.sha256, c.accuracy) for n, c in self.cards.items()}

    canvas, class_ids = SPEC, tuple("abcdefgh")

    def teacher(self, name):
        return self.teachers[name]


def run_steps(method, state, zoo, first: int, last: int) -> list[dict]:
    """Steps ``first`` to ``last`` - 1 as the loop takes them; their metrics."""
    metrics = []
    for step in range(first, last):
        rng = Rng(0).at("step", step)
        state.progress = 0.63  # where a step does what it does in the mean
        report = method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng)
        metrics.append(report.metrics())
    return metrics
