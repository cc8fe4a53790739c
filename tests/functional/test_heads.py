import pytest
import torch
import torch.nn.functional as F

from dfml.functional.heads import (
    centroid_coefficients,
    logistic_coefficients,
    ridge_coefficients,
    self_trained_ridge,
)

UNEVEN = torch.tensor([0, 0, 0, 1, 2, 2])


def _features(n: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _answers(head, support, labels, queries, **options):
    coefficients, bias = head(support @ support.T, labels, **options)
    return queries @ support.T @ coefficients + bias


def test_centroids_are_minus_squared_distances_up_to_a_shared_term():
    support, queries = _features(6), _features(4, seed=1)
    even = torch.tensor([0, 0, 1, 1, 2, 2])
    means = torch.stack([support[c == even].mean(0) for c in range(3)])
    expected = queries.square().sum(1, keepdim=True) - torch.cdist(queries, means) ** 2
    torch.testing.assert_close(_answers(centroid_coefficients, support, even, queries), expected)


def test_uneven_shots_take_off_what_a_mean_of_fewer_images_is_longer_by():
    support, queries = _features(6), _features(4, seed=1)
    own = [support[c == UNEVEN] for c in range(3)]
    variance = sum(((x - x.mean(0)) ** 2).sum() for x in own) / sum(len(x) - 1 for x in own)
    lengths = torch.stack([x.mean(0).square().sum() - variance / len(x) for x in own])
    expected = 2 * queries @ torch.stack([x.mean(0) for x in own]).T - lengths
    torch.testing.assert_close(_answers(centroid_coefficients, support, UNEVEN, queries), expected)


def test_four_more_images_of_a_class_do_not_cost_the_others_their_recall():
    """Gaussian classes of equal spread: with plain means nearly every query would be given to the class of five."""
    generator = torch.Generator().manual_seed(0)
    recall = torch.zeros(5)
    labels = torch.tensor([0, 1, 2, 3, 4, 4, 4, 4, 4])
    for _ in range(200):
        centres = torch.randn(5, 64, generator=generator)
        support = F.normalize(centres[labels] + 1.5 * torch.randn(9, 64, generator=generator), dim=-1)
        asked = torch.arange(5).repeat(4)
        queries = F.normalize(centres[asked] + 1.5 * torch.randn(20, 64, generator=generator), dim=-1)
        right = _answers(centroid_coefficients, support, labels, queries).argmax(1) == asked
        recall += right.view(4, 5).float().mean(0) / 200
    assert recall.max() - recall.min() < 0.15, recall


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_ridge_is_the_minimum_of_its_weighted_objective(penalty):
    support, queries = _features(6), _features(4, seed=1)
    wanted = torch.eye(3, dtype=torch.float64)[UNEVEN]
    shots = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    importance = 2.0 / shots[UNEVEN]  # mean shot over the class's
    weight = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    length = support.square().sum(1).mean()

    def objective():
        optimiser.zero_grad()
        error = (importance[:, None] * (wanted - support @ weight).square()).sum()
        loss = error + penalty * length * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(objective)
    given = _answers(ridge_coefficients, support, UNEVEN, queries, penalty=penalty)
    torch.testing.assert_close(given, queries @ weight.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.01, 0.1, 1.0])
def test_logistic_regression_is_the_minimum_of_its_objective(penalty):
    support, queries = _features(6), _features(4, seed=1)
    unit = support / support.square().sum(1).mean().sqrt()
    weight = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    importance = torch.tensor([1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6], dtype=torch.float64)

    def objective():
        optimiser.zero_grad()
        losses = torch.nn.functional.cross_entropy(unit @ weight, UNEVEN, reduction="none")
        loss = (importance * losses).sum() + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(objective)
    given = _answers(logistic_coefficients, support, UNEVEN, queries, penalty=penalty, steps=400)
    scale = support.square().sum(1).mean().sqrt()
    torch.testing.assert_close(given, queries / scale @ weight.detach(), atol=1e-5, rtol=1e-4)
    early = _answers(logistic_coefficients, support, UNEVEN, queries, penalty=penalty)
    torch.testing.assert_close(early, given, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("head", [centroid_coefficients, ridge_coefficients, logistic_coefficients])
def test_kernels_of_many_episodes_give_each_ones_own_head(head):
    support = torch.stack([_features(6, seed=s) for s in range(3)])
    coefficients, bias = head(support @ support.mT, UNEVEN)
    for i, one in enumerate(support):
        alone = head(one @ one.T, UNEVEN)
        torch.testing.assert_close((coefficients[i], bias[i]), alone)


def test_with_one_image_of_a_class_ridge_mostly_agrees_with_centroids():
    labels, support, queries = torch.arange(5), _features(5), _features(200, seed=1)
    support, queries = support / support.norm(dim=1, keepdim=True), queries / queries.norm(dim=1, keepdim=True)
    choices = [_answers(h, support, labels, queries).argmax(1) for h in (centroid_coefficients, ridge_coefficients)]
    assert (choices[0] == choices[1]).double().mean() > 0.85


@pytest.mark.parametrize("rounds", [1, 4])
def test_self_trained_ridge_is_ridge_on_centred_features_refit_with_its_own_labels(rounds):
    labels, features = torch.arange(3).repeat(2), _features(6 + 9)
    unit = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    known, wanted = unit[:6], torch.eye(3, dtype=torch.float64)[labels]
    answers = unit[6:] @ known.T @ torch.linalg.inv(known @ known.T + torch.eye(6)) @ wanted
    for _ in range(rounds):
        targets = torch.cat([wanted, (7 * answers).softmax(1)])
        weight = torch.linalg.solve(unit.T @ unit + torch.eye(7), unit.T @ targets)  # the primal form
        answers = unit[6:] @ weight
    given = self_trained_ridge(features @ features.T, labels, scale=7.0, rounds=rounds)
    torch.testing.assert_close(given, answers)


def test_queries_in_clusters_help_each_other():
    g = torch.Generator().manual_seed(0)
    centres, labels = 2 * torch.eye(3, 16), torch.arange(3).repeat(20)
    known = centres + torch.randn(3, 16, generator=g)  # one image of a class, far from its cluster's centre
    queries = centres[labels] + 0.3 * torch.randn(60, 16, generator=g)
    features = torch.cat([known, queries])
    together = self_trained_ridge(features @ features.T, torch.arange(3), scale=7.0).argmax(1)
    alone = _answers(ridge_coefficients, known, torch.arange(3), queries).argmax(1)
    assert (together == labels).float().mean() > (alone == labels).float().mean()
