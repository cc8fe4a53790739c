import copy

import pytest
import torch
import torch.nn.functional as F

from dfml.episode import Episode
from dfml.learners.frozen import HEADS, FrozenLearner
from dfml.nn import given_statistics, record_statistics

NORMS = ["running", "support", "query_batch"]


def naive_distances(encoders, support, labels, queries, normalise):
    """Features per network normalised, joined; means; squared Euclidean distance, without what few shots add to it."""

    def features(images):
        parts = [encoder(images) for encoder in encoders]
        return torch.cat([p / p.norm(dim=1, keepdim=True) if normalise else p for p in parts], 1)

    with torch.no_grad():
        known, asked = features(support), features(queries)
    return distances(known, labels, asked)


def distances(known, labels, asked):
    own = [known[labels == c] for c in range(int(labels.max()) + 1)]
    variance = sum(((x - x.mean(0)) ** 2).sum() for x in own) / sum(len(x) - 1 for x in own)
    return torch.stack([torch.stack([((q - x.mean(0)) ** 2).sum() - variance / len(x) for x in own]) for q in asked])


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("networks", [1, 3])
def test_probabilities_are_a_softmax_of_naive_distances(make_encoder, support, queries, normalise, networks):
    encoders = [make_encoder(seed) for seed in range(networks)]
    predictor = FrozenLearner(encoders, normalise=normalise).adapt(*support)
    apart = naive_distances(encoders, *support, queries, normalise)
    expected = (-HEADS["centroid"][1] / networks * apart).softmax(-1)
    assert torch.allclose(predictor.probabilities(queries), expected, atol=1e-4)


@pytest.mark.parametrize("networks", [1, 3])
def test_ridge_answers_are_those_of_the_regression_on_joined_features(make_encoder, support, queries, networks):
    encoders = [make_encoder(seed) for seed in range(networks)]
    predictor = FrozenLearner(encoders, head="ridge").adapt(*support)
    with torch.no_grad():
        known, asked = (torch.cat([F.normalize(e(x), dim=-1) for e in encoders], 1) for x in (support[0], queries))
    shots = torch.bincount(support[1])
    share = shots[support[1]] * len(shots) / len(support[1])
    weight = known.T @ torch.linalg.solve(known @ known.T + networks * share.diag(), F.one_hot(support[1]).float())
    torch.testing.assert_close(predictor(queries), HEADS["ridge"][1] * asked @ weight, atol=1e-4, rtol=1e-4)


def test_support_statistics_normalise_the_queries(make_encoder, support, queries):
    encoder = make_encoder()
    with torch.no_grad():
        with record_statistics(encoder) as statistics:
            known = F.normalize(encoder(support[0]), dim=-1)
        with given_statistics(encoder, statistics):
            asked = F.normalize(encoder(queries), dim=-1)
    expected = (-HEADS["centroid"][1] * distances(known, support[1], asked)).softmax(-1)
    predictor = FrozenLearner(encoder).adapt(*support, norm="support")
    assert torch.allclose(predictor.probabilities(queries), expected, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_adapting_leaves_the_learner_and_later_training_leaves_the_predictor(make_encoder, support, queries, norm):
    learner = FrozenLearner([make_encoder(), make_encoder(1)]).train()
    state = copy.deepcopy(learner.state_dict())
    predictor = learner.adapt(*support, norm=norm)
    first = predictor(queries)
    assert all(m.training for m in learner.modules())
    assert all(torch.equal(v, state[k]) for k, v in learner.state_dict().items())
    for parameter in learner.parameters():
        assert parameter.requires_grad
        parameter.data.add_(1.0)
    assert torch.equal(predictor(queries), first)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("way", [2, 3, 5, 12])
def test_any_number_of_classes(make_encoder, norm, way):
    images, labels = torch.rand(2 * way, 3, 16, 16), torch.arange(way).repeat(2)
    assert FrozenLearner(make_encoder()).adapt(images, labels, norm=norm)(images).shape == (2 * way, way)


def test_meta_loss_is_prototypical_and_differentiable(make_encoder, support, queries):
    learner = FrozenLearner([make_encoder(), make_encoder(1)])
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    loss, accuracy = learner.meta_loss(Episode(*support, queries, labels))
    predictor = learner.adapt(*support)
    assert float(loss.detach()) == pytest.approx(float(F.cross_entropy(predictor(queries), labels)), rel=1e-3)
    assert float(accuracy) == pytest.approx(100 * float((predictor(queries).argmax(-1) == labels).float().mean()))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


def test_describe(make_encoder):
    learner = FrozenLearner([make_encoder(), make_encoder(1, "resnet10")])
    wanted = {"learner": "centroid", "network": "conv4-8+resnet10-8", "networks_at_inference": 2}
    assert learner.describe() == wanted
