from itertools import permutations

import pytest
import torch

from dfml.errors import NotFinite
from dfml.functional.matching import assignment, matching, permuted, reordered, unit_distances


@pytest.mark.parametrize("seed", range(20))
def test_an_assignment_costs_as_little_as_the_best_of_all_permutations(seed):
    cost = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
    if seed % 2:
        cost = cost.round()  # ties
    best = min(float(cost[torch.arange(6), torch.tensor(p)].sum()) for p in permutations(range(6)))
    found = assignment(cost)
    assert sorted(found.tolist()) == list(range(6))
    assert float(cost[torch.arange(6), found].sum()) == pytest.approx(best, abs=1e-6)


def test_a_large_hidden_permutation_is_found():
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    cost = torch.rand(200, 200, generator=torch.Generator().manual_seed(1))
    cost[torch.arange(200), order] -= 1
    assert torch.equal(assignment(cost), order)


def test_costs_that_are_no_numbers_are_refused():
    with pytest.raises(NotFinite):
        assignment(torch.tensor([[0.0, float("nan")], [1.0, 2.0]]))


def test_distances_are_those_of_all_incoming_weights():
    ours, theirs = ([torch.randn(3, 2, 3, 3), torch.randn(3, 5)] for _ in range(2))
    pairs = list(zip(ours, theirs, strict=True))
    squared = [sum(((a[i] - b[j]) ** 2).sum() for a, b in pairs) for i in range(3) for j in range(3)]
    torch.testing.assert_close(unit_distances(ours, theirs).float(), torch.stack(squared).view(3, 3).sqrt())


def _two_layers(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (7, 4), "a.bias": (7,), "b.weight": (6, 7), "b.bias": (6,)}
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


GROUPS = [(("a.weight", "a.bias"), ("b.weight",)), (("b.weight", "b.bias"), ())]


def _answer(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return (x @ p["a.weight"].T + p["a.bias"]).relu() @ p["b.weight"].T + p["b.bias"]


def test_a_permuted_network_answers_in_another_order_and_is_brought_back():
    network, x = _two_layers(0), torch.randn(5, 4)
    orders = [torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in (7, 6)]
    copy = reordered(network, GROUPS, orders)
    torch.testing.assert_close(_answer(copy, x), _answer(network, x)[:, orders[1]])
    found = matching(copy, network, GROUPS)
    assert all(torch.equal(back[order], torch.arange(len(order))) for back, order in zip(orders, found, strict=True))
    assert all(torch.equal(v, network[k]) for k, v in reordered(copy, GROUPS, found).items())


def test_permuting_leaves_what_is_given_alone_and_a_tensor_that_reads_and_writes_itself_moves_twice():
    square = {"w": torch.arange(9.0).view(3, 3)}
    order = torch.tensor([2, 0, 1])
    moved = permuted(square, (("w",), ("w",)), order)["w"]
    assert torch.equal(moved, square["w"][order][:, order])
    assert torch.equal(square["w"], torch.arange(9.0).view(3, 3))


def test_matching_lowers_the_distance_of_networks_that_were_made_apart():
    ours, theirs = _two_layers(0), _two_layers(1)
    aligned = reordered(theirs, GROUPS, matching(theirs, ours, GROUPS))
    before, after = (sum(float((p[k] - ours[k]).norm()) for k in ("a.weight", "b.weight")) for p in (theirs, aligned))
    assert after < before
