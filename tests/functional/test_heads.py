import pytest
import torch

from dfml.functional.heads import centroid_coefficients, ridge_coefficients

UNEVEN = torch.tensor([0, 0, 0, 1, 2, 2])


def _features(n: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _answers(head, support, labels, queries, **options):
    coefficients, bias = head(support @ support.T, labels, **options)
    return queries @ support.T @ coefficients + bias


def test_centroids_are_minus_squared_distances_up_to_a_shared_term():
    support, queries = _features(6), _features(4, seed=1)
    means = torch.stack([support[c == UNEVEN].mean(0) for c in range(3)])
    expected = queries.square().sum(1, keepdim=True) - torch.cdist(queries, means) ** 2
    torch.testing.assert_close(_answers(centroid_coefficients, support, UNEVEN, queries), expected)


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


@pytest.mark.parametrize("head", [centroid_coefficients, ridge_coefficients])
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
