import pytest
import torch

from dfml.episode import Episode
from dfml.functional.augmentation import arcsine_share
from dfml.functional.divergences import kl_divergence
from dfml.learners import LEARNERS
from dfml.learners.base import centroid_head, class_means
from dfml.nn import mixing_features
from dfml.randomness import Rng
from dfml.recovery import Recovered
from dfml.training.bank import Bank
from dfml.training.replay import ReplayOptions
from dfml.training.tasks import distilled_tasks, memory_tasks, paired, task_loss
from toys import toy_encoder, toy_teacher

OPTIONS = ReplayOptions(episodes=40, way=3, shot=2, queries=3)
TRAINED = ["protonet", "maml", "anil"]


def bank() -> Bank:
    made, g = Bank(classes=5, capacity=8, shape=(3, 16, 16)), torch.Generator().manual_seed(0)
    for c in range(5):
        made.add(torch.rand(8, 3, 16, 16, generator=g), torch.full((8,), c), 0)
    return made


def soft(episode: Episode, sharpness: float) -> Episode:
    """The same labels, as probabilities."""
    labels = [(sharpness * torch.eye(episode.way)[y]).softmax(-1) for y in (episode.support_y, episode.query_y)]
    return Episode(episode.support_x, labels[0], episode.query_x, labels[1], episode.way)


@pytest.fixture
def episode() -> Episode:
    return bank().episode(way=3, shot=2, queries=3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TRAINED)
def test_certain_probabilities_are_labels(name, episode):
    learner = LEARNERS[name](toy_encoder())
    hard, right = learner.meta_loss(episode)
    loss, agreed = task_loss(learner, soft(episode, 200.0), None)
    torch.testing.assert_close(loss, hard)
    assert float(agreed) == float(right)


@pytest.mark.parametrize("name", TRAINED)
def test_what_a_teacher_says_matters_in_support_and_queries(name, episode):
    learner, unsure = LEARNERS[name](toy_encoder()), soft(episode, 1.0)
    certain = soft(episode, 200.0)
    parts = [(unsure, certain), (certain, unsure)]
    losses = [
        float(task_loss(learner, Episode(a.support_x, a.support_y, b.query_x, b.query_y, 3), None)[0].detach())
        for a, b in [*parts, (certain, certain)]
    ]
    assert len({round(value, 5) for value in losses}) == 3


def test_the_loss_of_a_prototypical_network_is_the_divergence_from_the_teacher(episode):
    learner, said = LEARNERS["protonet"](toy_encoder()), soft(episode, 1.3)
    features = learner._training_features(torch.cat([said.support_x, said.query_x]))
    support, query = features.split([6, 9])
    shares = said.support_y / said.support_y.sum(0)
    means = torch.stack([sum(shares[i, c] * support[i] for i in range(6)) for c in range(3)])
    torch.testing.assert_close(class_means(support, said.support_y, 3), means)
    weight, bias = centroid_head(means, learner.scale)
    wanted = kl_divergence(said.query_y.log(), query @ weight.T + bias)
    torch.testing.assert_close(task_loss(learner, said, None)[0], wanted)
    assert float(wanted.detach()) > 0


def test_features_are_mixed_not_images():
    encoder = toy_encoder()
    first, second = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with mixing_features(encoder, 0.3):
        mixed = encoder(torch.cat([first, second], 1))
    torch.testing.assert_close(mixed, 0.7 * encoder(first) + 0.3 * encoder(second))
    assert not torch.allclose(mixed, encoder(0.7 * first + 0.3 * second), atol=1e-3)
    assert encoder.mixture is None


@pytest.mark.parametrize("name", TRAINED)
def test_an_interpolation_of_a_task_with_itself_is_the_task_and_gradients_flow_through_any(name, episode):
    learner = LEARNERS[name](toy_encoder())
    alone, _ = task_loss(learner, episode, None)
    twice, _ = task_loss(learner, paired(episode, episode), 0.4)
    torch.testing.assert_close(twice, alone, rtol=1e-4, atol=1e-5)
    other = bank().episode(way=3, shot=2, queries=3, generator=torch.Generator().manual_seed(2))
    loss, _ = task_loss(learner, paired(episode, other), 0.4)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in learner.parameters())
    assert abs(float((loss - alone).detach())) > 1e-3


def test_classes_of_an_interpolation_stand_beside_each_other(episode):
    other = bank().episode(way=3, shot=2, queries=3, generator=torch.Generator().manual_seed(2))
    both = paired(episode, other)
    assert torch.equal(both.support_x[:, :3], episode.support_x)
    assert torch.equal(both.query_x[:, 3:], other.query_x)
    assert torch.equal(episode.support_y, other.support_y)


def test_shares_of_interpolations_are_of_the_arcsine_distribution():
    g = torch.Generator().manual_seed(0)
    shares = torch.tensor([arcsine_share(g) for _ in range(4000)])
    for bound in (0.1, 0.5, 0.8):
        wanted = 2 / torch.pi * torch.tensor(bound).sqrt().asin()
        assert float((shares < bound).float().mean()) == pytest.approx(float(wanted), abs=0.03)


def test_the_memory_gives_combinations_and_interpolations_and_nothing_before_it_is_filled():
    tasks = [task() for task in memory_tasks(bank(), OPTIONS, interpolated=0.5, flip=True, rng=Rng(0))]
    mixed = [share is not None for _, share in tasks]
    assert 10 <= sum(mixed) <= 30
    assert all(e.support_x.shape[1] == (6 if share is not None else 3) for e, share in tasks)
    for interpolated, wanted in ((0.0, False), (1.0, True)):
        made = memory_tasks(bank(), OPTIONS, interpolated=interpolated, flip=True, rng=Rng(0))
        assert all((task()[1] is not None) == wanted for task in made[:8])
    empty = Bank(classes=5, capacity=8, shape=(3, 16, 16))
    assert memory_tasks(empty, OPTIONS, interpolated=0.5, flip=True, rng=Rng(0)) == []


def test_each_task_is_answered_by_its_own_teacher_in_the_order_of_its_labels():
    """The published code lets the last teacher answer for all."""
    teachers = [toy_teacher("a", seed=0), toy_teacher("b", ("x", "y", "z", "w"), seed=1)]
    g = torch.Generator().manual_seed(0)
    shown = [Recovered(torch.rand(5 * n, 3, 16, 16, generator=g), torch.arange(n).repeat(5), {}) for n in (3, 4)]
    kind = ReplayOptions(way=3, shot=2, queries=3)
    tasks = distilled_tasks(teachers, shown, kind, flip=False, rng=Rng(0))
    for teacher, task in zip(teachers, tasks, strict=True):
        episode, share = task()
        logits = teacher.forward(episode.query_x).logits
        wanted = [
            order
            for order in torch.cartesian_prod(*[torch.arange(logits.shape[1])] * 3).tolist()
            if len(set(order)) == 3 and torch.allclose(logits[:, order].softmax(-1), episode.query_y, atol=1e-5)
        ]
        assert len(wanted) == 1
        assert share is None
        assert torch.allclose(
            teacher.forward(episode.support_x).logits[:, wanted[0]].softmax(-1), episode.support_y, atol=1e-5
        )


def test_a_visit_without_two_classes_of_enough_images_gives_no_task():
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    shown = [Recovered(torch.rand(7, 3, 16, 16), labels, {})]
    options = ReplayOptions(way=3, shot=2, queries=3)
    assert distilled_tasks([toy_teacher()], shown, options, flip=True, rng=Rng(0)) == []
