"""Meta-training on pseudo-episodes from the bank, until it stops helping."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dfml.bounds import Amount, Count, StepSize
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.episode import Episode
from dfml.errors import InputError
from dfml.learners.base import AbstractLearner, Metrics
from dfml.nn import norm_layers, one_after_another
from dfml.randomness import Rng


@runtime_checkable
class EpisodeBank(Protocol):
    """Where pseudo-episodes come from (`dfml.training.bank.Bank`, `dfml.training.pixel_bank.PixelBank`)."""

    @property
    def device(self) -> torch.device:
        """Where the images are."""

    def ready(self, needed: int) -> list[int]:
        """Classes with at least ``needed`` images."""

    def episode(self, *, way: int, shot: int, queries: int, generator: torch.Generator) -> Episode:
        """A pseudo-episode of random classes that are ready."""


@dataclass(frozen=True)
class ReplayOptions:
    """How much is replayed, and of what.

    Args:
        patience: meta-batches without a better mean training accuracy that end a step's replay; 0 replays nothing.
        limit: at most so many meta-batches a step; None: no limit.
        episodes: of a meta-batch; their losses are summed.
        lr: Adam's step size.
        together: compute a meta-batch's episodes at once, to the same numbers; None: not on a CPU.
        way: classes of a pseudo-episode.
        shot: support images per class.
        queries: query images per class.
    """

    patience: Count = 10
    limit: Amount | None = None
    episodes: Amount = 10
    lr: StepSize = 1e-3
    together: bool | None = None
    way: Amount = 5
    shot: Amount = 1
    queries: Amount = 15

    def check(self, *, classes: int, capacity: int) -> None:
        """Refuse pseudo-episodes that a bank of so many classes and images of a class could never fill.

        Raises:
            InputError: they need more.
        """
        if self.patience and (self.way > classes or self.shot + self.queries > capacity):
            raise InputError(
                f"{self.way}-way {self.shot}-shot episodes with {self.queries} queries, from a bank of {classes} "
                f"training classes of at most {capacity} images",
                "no more ways than training classes, no more shots and queries than images of a class",
                "lower replay.way, replay.shot or replay.queries, keep more images (bank_capacity, or images_per_class "
                "of a method without one), or set validation_teachers to 0",
            )


def replay(
    learner: AbstractLearner,
    bank: EpisodeBank,
    optimiser: torch.optim.Optimizer,
    options: ReplayOptions,
    *,
    rng: Rng,
    ranks: AbstractRanks = SERIAL_RANKS,
    beside: Callable[[], None] | None = None,
) -> tuple[Metrics, Episode | None]:
    """Optimiser steps on the sum of ``episodes`` losses, until ``patience`` of them in a row give no better accuracy.

    Args:
        learner: trained in place.
        bank: where episodes come from.
        optimiser: over the learner's parameters.
        options: how much, and of what; its ``lr`` is the optimiser's.
        rng: of this call alone.
        ranks: processes that share the episodes.
        beside: adds the gradient of another loss to that of every meta-batch.

    Returns:
        Metrics and the last episode; empty and None if the bank is too small yet or patience is 0.
    """
    best, losses = -1.0, 0.0
    waited = batch = 0
    last: Episode | None = None
    together = bank.device.type != "cpu" if options.together is None else options.together
    if len(bank.ready(options.shot + options.queries)) < options.way:
        return {}, None

    def draw(index: int) -> Episode:
        generator = rng.generator(batch, index)
        return bank.episode(way=options.way, shot=options.shot, queries=options.queries, generator=generator)

    while waited < options.patience and (options.limit is None or batch < options.limit):
        optimiser.zero_grad()
        met = meta_gradient(learner, draw, options.episodes, ranks, together=together)
        if beside is not None:
            beside()
        optimiser.step()
        last = draw(options.episodes - 1)
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
    return summed_gradients(
        learner, lambda group: learner.meta_losses([draw(i) for i in group]), episodes, ranks, together=together
    )


def summed_gradients(
    learner: AbstractLearner,
    losses_of: Callable[[list[int]], tuple[Tensor, Tensor]],
    episodes: int,
    ranks: AbstractRanks,
    *,
    together: bool = False,
) -> Metrics:
    """`meta_gradient` of losses of any kind: ``losses_of`` gives those of a group of episodes, and their accuracies."""
    parameters, statistics = list(learner.parameters()), running_statistics(learner)
    before = [s.clone() for s in statistics]
    shares = min(ranks.world, episodes) if together else episodes
    groups = [group.tolist() for group in torch.arange(episodes).tensor_split(shares)]

    def play(group: list[int]) -> list[Tensor]:
        torch._foreach_copy_(statistics, before)
        losses, accuracies = losses_of(group)
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


def running_statistics(learner: AbstractLearner) -> list[Tensor]:
    """Of every BatchNorm layer, the tensors themselves."""
    pairs = ((layer.running_mean, layer.running_var) for layer in norm_layers(learner))
    return [statistic for pair in pairs for statistic in pair if statistic is not None]
