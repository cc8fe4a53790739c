import copy

import pytest
import torch

from dfml.functional.plackett_luce import plackett_luce_log_likelihood
from dfml.randomness import Rng
from dfml.training.selection import BASELINE_DECAY, SelectionPolicy

AMONG = [1, 2, 4, 5, 7]


def test_a_step_follows_the_score_function_and_leaves_models_out_of_question_alone():
    policy = SelectionPolicy(8, lr=0.1)
    with torch.no_grad():
        policy.logits.copy_(torch.linspace(-1, 1, 8))
    assert policy.learn([4, 1], AMONG, 40.0) == 0
    before, likelihood = policy.logits.detach().clone(), policy.logits.detach()[AMONG].requires_grad_()
    plackett_luce_log_likelihood(likelihood, torch.tensor([0, 3])).backward()
    assert policy.learn([1, 5], AMONG, 43.0) == pytest.approx(3.0)
    torch.testing.assert_close(policy.logits.grad[AMONG], -3.0 * likelihood.grad)
    assert policy.logits[1] > before[1]
    assert policy.logits[2] < before[2]
    assert torch.equal(policy.logits[[0, 3, 6]], before[[0, 3, 6]])
    assert policy.baseline == pytest.approx(BASELINE_DECAY * 40 + (1 - BASELINE_DECAY) * 43)


def test_models_that_cost_reward_are_drawn_less_and_less():
    policy, bad = SelectionPolicy(10, lr=0.1), {0, 1, 2, 3}
    for step in range(150):
        drawn = policy.draw(range(10), 3, Rng(0).generator(step))
        policy.learn(drawn, range(10), 60.0 - 5 * len(bad.intersection(drawn)))
    chances = policy.probabilities(range(10))
    assert chances[:4].max() < chances[4:].min()
    assert chances[:4].sum() < 0.1


def test_a_policy_travels():
    whole, first = SelectionPolicy(5, lr=0.1), SelectionPolicy(5, lr=0.1)
    for step in range(4):
        for policy in (whole, first):
            policy.learn(policy.draw(range(5), 2, Rng(0).generator(step)), range(5), float(step**2))
        saved = copy.deepcopy(first.state_dict())
        first = SelectionPolicy(5, lr=0.1)
        first.load_state_dict(saved)
    assert torch.equal(whole.logits, first.logits)
    assert whole.baseline == first.baseline
