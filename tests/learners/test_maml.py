import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfml.episode import Episode
from dfml.errors import InputError
from dfml.learners import LEARNERS, MAML
from dfml.learners.base import class_means
from toys import toy_encoder


def _episode(way: int = 3, shots: tuple[int, ...] = (2, 1, 3), queries: int = 4, seed: int = 0) -> Episode:
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(way).repeat_interleave(torch.tensor(shots[:way] if way <= 3 else [1] * way))
    centres = torch.rand(way, 3, 1, 1, generator=g)
    draw = lambda labels: (centres[labels] + 0.2 * torch.rand(len(labels), 3, 16, 16, generator=g)).clamp(0, 1)  # noqa: E731
    q = torch.arange(way).repeat_interleave(queries)
    return Episode(draw(y), y, draw(q), q)


@pytest.mark.parametrize("adapts", ["all", "head"])
def test_second_order_meta_gradient_matches_central_differences(adapts):
    learner = MAML(toy_encoder().double(), train_steps=2, inner_lr=0.1, adapts=adapts).double()
    e = _episode()
    episode = Episode(e.support_x.double(), e.support_y, e.query_x.double(), e.query_y)
    loss, _ = learner.meta_loss(episode)
    loss.backward()
    checked = 0
    for name, p in learner.named_parameters():
        flat, gradient = p.data.view(-1), p.grad.view(-1)
        index = int(gradient.abs().argmax())
        h, kept = 1e-6, float(flat[index])
        flat[index] = kept + h
        above = float(learner.meta_loss(episode)[0])
        flat[index] = kept - h
        below = float(learner.meta_loss(episode)[0])
        flat[index] = kept
        numeric = (above - below) / (2 * h)
        if float(gradient[index].abs()) > 1e-6:
            assert abs(numeric - float(gradient[index])) < 1e-6 + 1e-3 * abs(numeric), name
            checked += 1
    assert checked >= 8


def test_inner_loop_equals_plain_gradient_descent():
    learner = MAML(toy_encoder(), test_steps=3, inner_lr=0.05, adapts="head", norm="running")
    e = _episode()
    with torch.no_grad():
        features = F.normalize(learner.encoder(e.support_x), dim=-1)
        centroids = class_means(features, e.support_y, 3)
    w, b = 2 * 5.0 * centroids, -5.0 * (centroids**2).sum(-1)
    for _ in range(3):
        w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
        F.cross_entropy(features @ w.T + b, e.support_y).backward()
        w, b = w - 0.05 * w.grad, b - 0.05 * b.grad
    predictor = learner.adapt(e.support_x, e.support_y)
    torch.testing.assert_close(predictor.weight, w.detach())
    torch.testing.assert_close(predictor.bias, b.detach())


def test_inner_loop_of_all_parameters_equals_plain_gradient_descent():
    learner = MAML(toy_encoder(), test_steps=2, inner_lr=0.05, norm="running")
    e = _episode()
    copied = copy.deepcopy(learner.encoder)
    with torch.no_grad():
        centroids = class_means(F.normalize(copied(e.support_x), dim=-1), e.support_y, 3)
    w, b = nn.Parameter(2 * 5.0 * centroids), nn.Parameter(-5.0 * (centroids**2).sum(-1))
    plain = torch.optim.SGD([*copied.parameters(), w, b], lr=0.05)
    for _ in range(2):
        plain.zero_grad()
        F.cross_entropy(F.linear(F.normalize(copied(e.support_x), dim=-1), w, b), e.support_y).backward()
        plain.step()
    predictor = learner.adapt(e.support_x, e.support_y)
    torch.testing.assert_close(predictor.weight, w.detach())
    for adapted, expected in zip(predictor.encoders[0].parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(adapted, expected.detach())


def test_first_order_differs_from_second_order_and_both_learn():
    gradients = []
    for second_order in (True, False):
        learner = MAML(toy_encoder(), second_order=second_order, inner_lr=0.1)
        learner.meta_loss(_episode())[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in learner.encoder.parameters()]))
    assert not torch.allclose(*gradients)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.3


def test_support_statistics_are_inductive_and_query_batch_is_not():
    learner, e = MAML(toy_encoder()), _episode()
    inductive = learner.adapt(e.support_x, e.support_y, norm="support")
    torch.testing.assert_close(inductive(e.query_x)[:1], inductive(e.query_x[:1]), atol=1e-4, rtol=1e-4)
    transductive = learner.adapt(e.support_x, e.support_y, norm="query_batch")
    assert not torch.allclose(transductive(e.query_x)[:1], transductive(e.query_x[:4])[:1], atol=1e-3)


def test_a_literal_head_takes_only_its_own_way():
    learner = MAML(toy_encoder(), head="literal", way=5)
    e = _episode()
    with pytest.raises(InputError, match="3-way task for a literal 5-way head"):
        learner.adapt(e.support_x, e.support_y)


def test_second_order_training_lowers_the_meta_loss():
    learner = MAML(toy_encoder(), train_steps=2)
    optimiser = torch.optim.Adam(learner.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss, _ = learner.meta_loss(_episode(seed=step % 4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_anil_moves_the_encoder_only_in_the_outer_loop():
    learner, e = LEARNERS["anil"](toy_encoder()), _episode()
    predictor = learner.adapt(e.support_x, e.support_y)
    own = dict(learner.encoder.named_parameters())
    assert all(torch.equal(p, own[k]) for k, p in predictor.encoders[0].named_parameters())
    learner.meta_loss(e)[0].backward()
    assert all(p.grad is not None for p in learner.encoder.parameters())
