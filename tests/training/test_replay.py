"""Episodes one after the other and all at once give the same numbers."""

import copy

import pytest
import torch

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.episode import Episode, can_stack
from dfml.learners import LEARNERS
from dfml.nn import norm_layers
from dfml.randomness import Rng
from dfml.training.bank import Bank
from dfml.training.replay import ReplayOptions, meta_gradient, replay
from toys import toy_encoder

EPISODES = 3
KINDS = {
    "protonet": ("protonet", {}),
    "protonet, not normalised": ("protonet", {"normalise": False}),
    "maml, second order": ("maml", {"train_steps": 2, "inner_lr": 0.1}),
    "maml, first order": ("maml", {"train_steps": 2, "inner_lr": 0.1, "second_order": False}),
    "maml, published": (
        "maml",
        {"train_steps": 2, "inner_lr": 0.1, "head": "literal", "way": 3, "norm": "query_batch"},
    ),
    "maml, running statistics": ("maml", {"train_steps": 2, "inner_lr": 0.1, "norm": "running"}),
    "anil": ("anil", {"train_steps": 2, "inner_lr": 0.1}),
    "centroid": ("centroid", {}),  # leaves it to the loop
}


def bank() -> Bank:
    made, g = Bank(classes=4, capacity=8, shape=(3, 16, 16)), torch.Generator().manual_seed(0)
    for c in range(4):
        made.add(
            (torch.rand(3, 1, 1, generator=g) + 0.3 * torch.rand(8, 3, 16, 16, generator=g)) / 1.3,
            torch.full((8,), c),
            0,
        )
    return made


def draw(index: int) -> Episode:
    return bank().episode(way=3, shot=1, queries=4, generator=Rng(0).generator(index))


def build(kind: str):
    name, options = KINDS[kind]
    return LEARNERS[name](toy_encoder().double(), **options).double()


def gradients(learner, together: bool, ranks: AbstractRanks = SERIAL_RANKS):
    def double(index: int) -> Episode:
        e = draw(index)
        return Episode(e.support_x.double(), e.support_y, e.query_x.double(), e.query_y, e.way)

    learner = copy.deepcopy(learner)
    met = meta_gradient(learner, double, EPISODES, ranks, together=together)
    statistics = [s for layer in norm_layers(learner) for s in (layer.running_mean, layer.running_var)]
    return met, [p.grad for p in learner.parameters()], statistics


class InShares(AbstractRanks):
    """A process that does the work of several."""

    rank, world = 0, 2

    def map(self, function, items):
        return [function(item) for item in items]


@pytest.mark.parametrize("ranks", [SERIAL_RANKS, InShares()], ids=["alone", "two shares"])
@pytest.mark.parametrize("kind", KINDS)
def test_together_is_one_after_the_other(kind, ranks):
    learner = build(kind)
    met, wanted, statistics = gradients(learner, together=False)
    met_together, given, statistics_together = gradients(learner, together=True, ranks=ranks)
    assert met_together == pytest.approx(met, rel=1e-6)
    assert any(float(g.abs().max()) > 1e-3 for g in wanted)
    torch.testing.assert_close(given, wanted, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(statistics_together, statistics, rtol=1e-9, atol=1e-12)


def test_running_statistics_are_those_of_training_on_one_episode_after_the_other():
    learner = build("protonet")
    _, _, statistics = gradients(learner, together=True)
    for i in range(EPISODES):
        e = draw(i)
        learner.encoder.train()(torch.cat([e.support_x, e.query_x]).double())
    plain = [s for layer in norm_layers(learner) for s in (layer.running_mean, layer.running_var)]
    torch.testing.assert_close(statistics, plain)


def test_uneven_episodes_are_left_to_the_loop():
    first, second = draw(0), draw(1)
    shorter = Episode(second.support_x, second.support_y, second.query_x[:5], second.query_y[:5])
    assert shorter.way == 3
    assert not can_stack([first, shorter])
    losses, _ = LEARNERS["protonet"](toy_encoder()).meta_losses([first, shorter])
    assert losses.shape == (2,)


def test_a_replay_of_episodes_at_once_ends_where_the_loop_ends():
    ended = []
    for together in (False, True):
        learner = build("protonet").float()
        options = ReplayOptions(patience=2, limit=4, episodes=EPISODES, way=3, queries=4, together=together)
        adam = torch.optim.SGD(learner.parameters(), lr=0.1)
        metrics, last = replay(learner, bank(), adam, options, rng=Rng(0))
        ended.append((metrics["replay_loss"], metrics["replay_batches"], [*learner.parameters()]))
        assert last is not None
    assert ended[0][0] == pytest.approx(ended[1][0], rel=1e-4)
    assert ended[0][1] == ended[1][1]
    torch.testing.assert_close(ended[0][2], ended[1][2], rtol=1e-3, atol=1e-4)
