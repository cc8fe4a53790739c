import itertools
import math

import pytest
import torch

from dfml.functional.plackett_luce import plackett_luce_draw, plackett_luce_log_likelihood

LOGITS = torch.tensor([0.3, -1.2, 2.0, 0.0, 0.7], dtype=torch.float64)


def naive(logits: list[float], order: tuple[int, ...]) -> float:
    """Draw by draw: the chance of each among those that are left."""
    left, chance = list(range(len(logits))), 1.0
    for item in order:
        chance *= math.exp(logits[item]) / sum(math.exp(logits[j]) for j in left)
        left.remove(item)
    return chance


@pytest.mark.parametrize("drawn", [1, 2, 3, 5])
def test_the_likelihood_is_that_of_drawing_one_after_another_and_sums_to_one_over_all_orders(drawn):
    total = 0.0
    for order in itertools.permutations(range(5), drawn):
        chance = math.exp(plackett_luce_log_likelihood(LOGITS, torch.tensor(order)))
        assert chance == pytest.approx(naive(LOGITS.tolist(), order), rel=1e-12)
        total += chance
    assert total == pytest.approx(1, abs=1e-12)


def test_order_matters_and_independent_draws_are_something_else():
    first, second = (float(plackett_luce_log_likelihood(LOGITS, torch.tensor(o))) for o in ([2, 1], [1, 2]))
    assert abs(first - second) > 0.1
    assert abs(float(LOGITS.log_softmax(-1)[[2, 1]].sum()) - first) > 0.1


def test_the_gradient_matches_central_differences_also_where_all_are_drawn():
    for order in ([2, 0], [4, 3, 2, 1, 0]):
        logits, wanted = LOGITS.clone().requires_grad_(), torch.tensor(order)
        plackett_luce_log_likelihood(logits, wanted).backward()
        for i in range(5):
            h = torch.zeros(5, dtype=torch.float64)
            h[i] = 1e-6
            above, below = (float(plackett_luce_log_likelihood(LOGITS + s * h, wanted)) for s in (1, -1))
            assert float(logits.grad[i]) == pytest.approx((above - below) / 2e-6, abs=1e-7)


def test_orders_are_drawn_as_often_as_their_likelihood_says():
    logits, seen, draws = LOGITS[:3], {}, 6000
    g = torch.Generator().manual_seed(0)
    for _ in range(draws):
        order = tuple(plackett_luce_draw(logits, 2, g).tolist())
        seen[order] = seen.get(order, 0) + 1
    for order in itertools.permutations(range(3), 2):
        chance = naive(logits.tolist(), order)
        assert seen[order] / draws == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / draws))


def test_nobody_is_drawn_twice_and_a_small_zoo_gives_all_it_has():
    order = plackett_luce_draw(LOGITS, 9, torch.Generator().manual_seed(1))
    assert sorted(order.tolist()) == list(range(5))
