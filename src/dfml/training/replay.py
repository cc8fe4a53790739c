"""Meta-training on pseudo-episodes from the bank, until it stops helping."""

from collections.abc import Callable

import torch
from torch import Tensor

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.episode import Episode
from dfml.learners.base import AbstractLearner, Metrics
from dfml.nn import norm_layers, one_after_another
from dfml.randomness import Rng
from dfml.training.bank import Bank


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
    together: bool | None = None,
    ranks: AbstractRanks = SERIAL_RANKS,
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
        together: compute a meta-batch's episodes at once (of each process: its share); None: not on a CPU.
        ranks: processes that share the episodes.

    Returns:
        Metrics and the last episode; empty and None if the bank is too small yet or patience is 0.
    """
    best, waited, batch, losses, last = -1.0, 0, 0, 0.0, None
    if together is None:
        together = bank.device.type != "cpu"
    if len(bank.ready(shot + queries)) < way:
        return {}, None

    def draw(index: int) -> Episode:
        return bank.episode(way=way, shot=shot, queries=queries, generator=rng.generator(batch, index))

    while waited < patience and (limit is None or batch < limit):
        optimiser.zero_grad()
        met = meta_gradient(learner, draw, episodes, ranks, together=together)
        optimiser.step()
        last = draw(episodes - 1)
        batch += 1
        losses += met["loss"]
        waited = 0 if met["accuracy"] > best else waited + 1
        best = max(best, met["accuracy"])
    if last is None:
        return {}, None
    return {"replay_loss": losses / batch, "replay_accuracy": best, "replay_batches": float(batch)}, last


def meta_gradient(
    learner: AbstractLearner,
    draw: Callable[[int], Episode],
    episodes: int,
    ranks: AbstractRanks,
    *,
    together: bool = False,
) -> Metrics:
    """Leave the gradient of the summed losses in the parameters; BatchNorm's running statistics follow the episodes.

    Returns:
        The episodes' mean ``loss`` and ``accuracy``.
    """
    parameters, statistics = list(learner.parameters()), _running_statistics(learner)
    before = [s.clone() for s in statistics]
    shares = min(ranks.world, episodes) if together else episodes
    groups = [group.tolist() for group in torch.arange(episodes).tensor_split(shares)]

    def play(group: list[int]) -> list[Tensor]:
        torch._foreach_copy_(statistics, before)
        losses, accuracies = learner.meta_losses([draw(i) for i in group])
        gradients = torch.autograd.grad(losses.sum(), parameters, allow_unused=True, materialize_grads=True)
        met = torch.stack([losses.detach().sum(), accuracies.sum()])
        return [met, *gradients, *(s.clone() for s in statistics)]

    played = ranks.map(play, groups)
    for p, *gradients in zip(parameters, *(row[1 : 1 + len(parameters)] for row in played), strict=True):
        p.grad = torch.stack(gradients).sum(0)
    after = zip(*(row[1 + len(parameters) :] for row in played), strict=True)
    for statistic, start, ends in zip(statistics, before, after, strict=True):
        one_after_another(statistic, start, [(end, len(group)) for end, group in zip(ends, groups, strict=True)])
    loss, accuracy = (torch.stack([row[0] for row in played]).sum(0) / episodes).tolist()
    return {"loss": loss, "accuracy": accuracy}


def _running_statistics(learner: AbstractLearner) -> list[Tensor]:
    """Of every BatchNorm layer, the tensors themselves."""
    pairs = ((layer.running_mean, layer.running_var) for layer in norm_layers(learner))
    return [statistic for pair in pairs for statistic in pair if statistic is not None]
