"""Meta-training on pseudo-episodes from the bank, until it stops helping."""

import torch

from dfml.bank import Bank
from dfml.episode import Episode
from dfml.learners.base import AbstractLearner, Metrics
from dfml.randomness import Rng


def replay(
    learner: AbstractLearner,
    bank: Bank,
    optimiser: torch.optim.Optimizer,
    *,
    patience: int,
    limit: int | None,
    episodes: int,
    way: int,
    shot: int,
    queries: int,
    rng: Rng,
) -> tuple[Metrics, Episode | None]:
    """Optimiser steps on the sum of ``episodes`` losses, until ``patience`` of them in a row give no better accuracy.

    Args:
        learner: trained in place.
        bank: where episodes come from.
        optimiser: over the learner's parameters.
        patience: meta-batches without a better mean training accuracy; 0 replays nothing.
        limit: at most so many meta-batches; None: no limit.
        episodes: episodes of a meta-batch.
        way: classes of an episode.
        shot: support images per class.
        queries: query images per class.
        rng: of this call alone.

    Returns:
        Metrics and the last episode; empty and None if the bank is too small yet or patience is 0.
    """
    best, waited, batch, losses, episode = -1.0, 0, 0, 0.0, None
    if len(bank.ready(shot + queries)) < way:
        return {}, None
    while waited < patience and (limit is None or batch < limit):
        accuracies = []
        optimiser.zero_grad()
        for index in range(episodes):
            episode = bank.episode(way=way, shot=shot, queries=queries, generator=rng.generator(batch, index))
            loss, metrics = learner.meta_loss(episode)
            loss.backward()
            losses += float(loss.detach())
            accuracies.append(metrics["accuracy"])
        optimiser.step()
        batch += 1
        accuracy = sum(accuracies) / episodes
        waited = 0 if accuracy > best else waited + 1
        best = max(best, accuracy)
    if not batch:
        return {}, None
    mean_loss = losses / (batch * episodes)
    return {"replay_loss": mean_loss, "replay_accuracy": best, "replay_batches": float(batch)}, episode
