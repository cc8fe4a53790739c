from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dfml.errors import InputError
from dfml.learners.predictor_file import load_predictor, save_predictor
from dfml.methods.zoo_ensemble import ZooEnsemble, covering
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.zoo import Zoo
from dfml.zoo.index import Entry, Index
from toys import ToyZoo


def test_it_compares_what_all_teachers_answer():
    zoo, images = ToyZoo(), torch.rand(6, 3, 16, 16)
    learner = ZooEnsemble(compare="answers").init(zoo, Rng(0)).learner
    support, query, labels = images[:4], images[4:], torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        parts = [
            F.normalize(zoo.teacher(i).forward(images).logits.softmax(-1).sqrt() - 3**-0.5, dim=-1) for i in zoo.ids
        ]
    joined = torch.cat(parts, -1)
    centroids = torch.stack([joined[:2].mean(0), joined[2:4].mean(0)])
    distances = torch.cdist(joined[4:], centroids) ** 2
    answers = learner.adapt(support, labels)(query)
    margin, expected = answers[:, 0] - answers[:, 1], distances[:, 1] - distances[:, 0]
    torch.testing.assert_close(margin / margin.abs().sum(), expected / expected.abs().sum(), rtol=1e-3, atol=1e-4)


def test_a_posterior_of_all_teachers_is_joined_to_their_answers(tmp_path):
    zoo, images = ToyZoo(), torch.rand(6, 3, 16, 16)
    learner = ZooEnsemble(compare="posterior", head="ridge").init(zoo, Rng(0)).learner
    about = learner.describe()
    assert (about["networks_at_inference"], about["network"]) == (len(zoo.ids), "conv4-4")
    (encoder,) = learner.frozen_encoders
    with torch.no_grad():
        logits = torch.cat([zoo.teacher(i).forward(images).logits for i in zoo.ids], -1)
        torch.testing.assert_close(encoder.backbone.logits(zoo.canvas.normalise(images)), logits)
        roots = logits.unflatten(1, (-1, 3)).softmax(-1).sqrt() - 3**-0.5
        torch.testing.assert_close(encoder(images)[:, :15], F.normalize(roots.flatten(1), dim=-1))
    predictor = learner.adapt(images[:4], torch.tensor([0, 0, 1, 1]))
    save_predictor(predictor, tmp_path / "p", ("cat", "dog"))
    assert torch.equal(load_predictor(tmp_path / "p").predictor(images), predictor(images))


def test_each_teacher_of_a_posterior_sees_images_as_it_wants_them():
    zoo, images = ToyZoo(), torch.rand(6, 3, 16, 16)
    zoo.cards["t1"] = replace(zoo.cards["t1"], input_spec=InputSpec(size=16, mean=(0.1, 0.1, 0.1)))
    (encoder,) = ZooEnsemble(compare="posterior").init(zoo, Rng(0)).learner.frozen_encoders
    with torch.no_grad():
        wanted = torch.cat([zoo.network(i)(zoo.cards[i].input_spec.normalise(images)) for i in zoo.ids], -1)
        torch.testing.assert_close(encoder.backbone.logits(images), wanted)


class Named(Zoo):
    """A zoo of which only the index is known."""

    def __init__(self, **models):
        entries = [
            Entry(i, "dfml:conv4", tuple(classes), "", {"mean": accuracy}) for i, (classes, accuracy) in models.items()
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
