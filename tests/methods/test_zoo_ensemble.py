from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dfml.errors import InputError
from dfml.methods.zoo_ensemble import ZooEnsemble, covering
from dfml.randomness import Rng
from dfml.zoo import Zoo
from dfml.zoo.index import Entry, Index
from toys import ToyZoo


def test_it_compares_what_all_teachers_answer():
    zoo, images = ToyZoo(), torch.rand(6, 3, 16, 16)
    learner = ZooEnsemble(compare="answers").init(zoo, Rng(0)).learner
    support, query, labels = images[:4], images[4:], torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        parts = [F.normalize(zoo.teacher(i).probabilities(images).sqrt() - 3**-0.5, dim=-1) for i in zoo.ids]
    joined = torch.cat(parts, -1)
    centroids = torch.stack([joined[:2].mean(0), joined[2:4].mean(0)])
    distances = torch.cdist(joined[4:], centroids) ** 2
    answers = learner.adapt(support, labels)(query)
    margin, expected = answers[:, 0] - answers[:, 1], distances[:, 1] - distances[:, 0]
    torch.testing.assert_close(margin / margin.abs().sum(), expected / expected.abs().sum(), rtol=1e-3, atol=1e-4)


class Named(Zoo):
    """A zoo of which only the index is known."""

    def __init__(self, **models):
        entries = [
            Entry(i, "conv4", tuple(classes), "", {"mean": accuracy}) for i, (classes, accuracy) in models.items()
        ]
        super().__init__(Path("nowhere"), Index("named", True, models=tuple(entries)))


def test_a_few_teachers_are_chosen_by_the_classes_they_add():
    zoo = Named(a=("xy", 90.0), b=("xy", 95.0), c=("xz", 80.0), d=("uv", 70.0))
    assert covering(zoo, 3) == ["b", "d", "c"]
    assert sorted(covering(zoo, 4)) == ["a", "b", "c", "d"]
    for count in (0, 5):
        with pytest.raises(InputError, match="1 to 4"):
            covering(zoo, count)


def test_an_ensemble_of_a_few():
    zoo = ToyZoo()
    learner = ZooEnsemble(models=1, head="logistic").init(zoo, Rng(0)).learner
    assert learner.describe()["networks_at_inference"] == 1
