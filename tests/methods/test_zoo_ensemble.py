import torch
import torch.nn.functional as F

from dfml.methods.zoo_ensemble import ZooEnsemble
from dfml.randomness import Rng
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
