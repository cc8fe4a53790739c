"""Tasks to meta-train on: of a teacher with its answers, combined from a bank, or interpolated between two."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dfml.compute.devices import send
from dfml.episode import Episode, sample_indices
from dfml.functional.augmentation import arcsine_share, shift_and_flip
from dfml.learners.base import AbstractLearner
from dfml.nn import mixing_features
from dfml.randomness import Rng
from dfml.recovery import Recovered
from dfml.training.bank import Bank
from dfml.training.replay import ReplayOptions
from dfml.zoo.teacher import Teacher

Task = tuple[Episode, float | None]
"""An episode, and the share of the second image where each of its images is two."""
Tasks = list[Callable[[], Task]]
"""Each made when it is played, by the process that plays it."""


def task_loss(learner: AbstractLearner, episode: Episode, share: float | None) -> tuple[Tensor, Tensor]:
    """The learner's loss on a task, less the entropy of soft labels (so KL divergence from a teacher), and accuracy."""
    with mixing_features(learner.networks[0], share):
        loss, accuracy = learner.meta_loss(episode)
    if episode.query_y.is_floating_point():
        loss = loss - torch.special.entr(episode.query_y).sum(-1).mean()
    return loss, accuracy


def distilled_tasks(
    teachers: Sequence[Teacher], recovered: Sequence[Recovered], options: ReplayOptions, *, flip: bool, rng: Rng
) -> Tasks:
    """What each teacher says of its own images, where two of its classes or more have enough of them."""
    needed = options.shot + options.queries
    tasks: Tasks = []
    for i, (teacher, shown) in enumerate(zip(teachers, recovered, strict=True)):
        if int((shown.labels.bincount() >= needed).sum()) >= 2:
            tasks.append(partial(_distilled, teacher, shown, options, flip, rng.at("teacher", i)))
    return tasks


def _distilled(teacher: Teacher, shown: Recovered, options: ReplayOptions, flip: bool, rng: Rng) -> Task:
    members = {int(c): (shown.labels == c).nonzero()[:, 0].cpu() for c in shown.labels.unique()}
    ready = sum(len(own) >= options.shot + options.queries for own in members.values())
    kind = {"way": min(options.way, ready), "shots": options.shot, "queries": options.queries}
    drawn = sample_indices(members, **kind, generator=rng.generator("images"))
    device, few = shown.images.device, len(drawn.support)
    chosen = send(torch.cat([drawn.support, drawn.query]), device)
    images = shift_and_flip(shown.images[chosen], rng.generator("augment"), flip=flip)
    outputs = send(shown.labels[drawn.support[:: options.shot]], device)
    with torch.no_grad():
        said = teacher.forward(images).logits.float()[:, outputs].softmax(-1)
    return Episode(images[:few], said[:few], images[few:], said[few:], kind["way"]), None


def memory_tasks(bank: Bank, options: ReplayOptions, *, interpolated: float, flip: bool, rng: Rng) -> Tasks:
    """A meta-batch of combinations and interpolations; none while the bank is too small."""
    if len(bank.ready(options.shot + options.queries)) < options.way:
        return []
    return [
        partial(_remembered, bank, options, interpolated, flip, rng.at("memory", i)) for i in range(options.episodes)
    ]


def _remembered(bank: Bank, options: ReplayOptions, interpolated: float, flip: bool, rng: Rng) -> Task:
    def combination(name: str) -> Episode:
        drawn = bank.episode(way=options.way, shot=options.shot, queries=options.queries, generator=rng.generator(name))
        support = shift_and_flip(drawn.support_x, rng.generator(name, "support"), flip=flip)
        query = shift_and_flip(drawn.query_x, rng.generator(name, "query"), flip=flip)
        return replace(drawn, support_x=support, query_x=query)

    if float(torch.rand((), generator=rng.generator("kind"))) >= interpolated:
        return combination("first"), None
    return paired(combination("first"), combination("second")), arcsine_share(rng.generator("share"))


def paired(first: Episode, second: Episode) -> Episode:
    """Images of two episodes on one channel axis, class by class; labels of the first, which the second has, too."""
    return replace(
        first,
        support_x=torch.cat([first.support_x, second.support_x], 1),
        query_x=torch.cat([first.query_x, second.query_x], 1),
    )
