"""How well a learner does: accuracy over frozen episodes.

A learner whose adapting is no more than a linear head on frozen features (`AbstractLearner.frozen_encoders`) is
evaluated by embedding the image set once, one encoder after the other (`dfml.evaluation.kernels`).
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.compute.executor import SERIAL, Executor, in_order, parts
from dfml.data.image_set import ImageSet
from dfml.errors import InputError
from dfml.evaluation.kernels import joined_kernels
from dfml.evaluation.manifest import Manifest, make_manifest
from dfml.evaluation.score import Score
from dfml.learners.base import AbstractLearner
from dfml.nn import Norm, norm_layers
from dfml.nn.encoder import tensors_of
from dfml.zoo.store import Zoo

EPISODES, FROZEN_EPISODES = 600, 10_000
PARTS = 4  # of the episodes, a worker: so that workers end at about the same time
Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""
Answer = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Support images, their labels and query images to logits."""


def check_disjoint(zoo: Zoo, image_set: ImageSet) -> None:
    """Refuse a zoo that knows a class it is to be evaluated on.

    Raises:
        InputError: some class names stand in both.
    """
    both = sorted(set(zoo.class_names.values()) & set(image_set.class_names))
    if both:
        more = f" and {len(both) - 5} more" if len(both) > 5 else ""
        raise InputError(
            f"zoo {zoo.name} and {image_set.name} share {len(both)} classes: {', '.join(both[:5])}{more}",
            "evaluation classes that no teacher has seen",
            "evaluate on the test part of the split that the zoo was built from, or rename classes that differ",
        )


def evaluate(
    learner: AbstractLearner,
    image_set: ImageSet,
    manifest: Manifest,
    *,
    norm: Norm | None = None,
    progress: Progress | None = None,
    executor: Executor = SERIAL,
) -> Score:
    """Accuracy of ``learner`` on every episode of ``manifest``; the learner is left as it was.

    Args:
        learner: adapted anew to each episode's support.
        image_set: the set that the manifest was made for.
        manifest: the episodes.
        norm: how BatchNorm is set; None is the learner's own. ``query_batch`` is transductive.
        progress: called with encoders (frozen features) or episodes done and to do.
        executor: what episodes are shared out to; frozen features are read here.

    Raises:
        InputError: a manifest of other images, or images of a size that the networks do not take.
    """
    norm = norm or learner.norm
    manifest.check(image_set)
    start = time.perf_counter()
    encoders = learner.frozen_encoders if norm == "running" else None
    if encoders is not None:
        done = count(1)
        (kernels,) = joined_kernels(
            encoders,
            image_set,
            [manifest],
            normalise=learner.normalise,
            on_encoder=lambda: progress(next(done), len(encoders)) if progress else None,
        )
        accuracies = kernels.accuracies(learner.coefficients)
        return Score.of(accuracies, seconds=time.perf_counter() - start, norm=norm, manifest=manifest)
    answer = partial(_adapt_and_predict, learner, norm)
    device = _device(learner)
    return _one_by_one(answer, image_set, manifest, device=device, norm=norm, progress=progress, executor=executor)


def evaluate_transductive(
    learner: AbstractLearner,
    image_set: ImageSet,
    manifest: Manifest,
    *,
    progress: Progress | None = None,
    executor: Executor = SERIAL,
) -> Score:
    """As `evaluate`, all queries of an episode looked at together (`AbstractLearner.predict_transductive`)."""
    manifest.check(image_set)
    together, norm = learner.predict_transductive, learner.transductive
    device = _device(learner)
    return _one_by_one(together, image_set, manifest, device=device, norm=norm, progress=progress, executor=executor)


def _adapt_and_predict(learner: AbstractLearner, norm: Norm, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
    return learner.adapt(support, labels, norm=norm)(query)


def _device(learner: AbstractLearner) -> torch.device:
    return next((t.device for t in tensors_of(learner)), torch.device("cpu"))


def _one_by_one(
    answer: Answer,
    image_set: ImageSet,
    manifest: Manifest,
    *,
    device: torch.device,
    norm: str,
    progress: Progress | None,
    executor: Executor,
) -> Score:
    start, done = time.perf_counter(), 0
    accuracies: list[Tensor] = []
    score = partial(_accuracies, answer, image_set, manifest, device)
    for part in in_order(executor, score, parts(len(manifest), executor, each=PARTS)):
        accuracies.append(part)
        done += len(part)
        if progress:
            progress(done, len(manifest))
    seconds = time.perf_counter() - start
    return Score.of(torch.cat(accuracies), seconds=seconds, norm=norm, manifest=manifest)


def _accuracies(
    answer: Answer, image_set: ImageSet, manifest: Manifest, device: torch.device, part: range
) -> Float[Tensor, " part"]:
    """One job: the accuracies of these episodes, in percent."""
    accuracies = []
    for i in part:
        support, query = (image_set.batch(indices[i]).to(device) for indices in (manifest.support, manifest.query))
        answers = answer(support, manifest.support_y.to(device), query).argmax(-1).cpu()
        accuracies.append(100 * (answers == manifest.query_y).float().mean())
    return torch.stack(accuracies)


def evaluate_shots(
    learner: AbstractLearner,
    image_set: ImageSet,
    *,
    split: str,
    shots: Sequence[int] = (1, 5),
    way: int = 5,
    queries: int = 15,
    episodes: int | None = None,
    transductive_episodes: int = EPISODES,
    seed: int = 0,
    progress: Progress | None = None,
    executor: Executor = SERIAL,
) -> dict[int, dict[str, Score]]:
    """For each shot the scores ``inductive`` (the learner's own BatchNorm setting, or `support`) and ``transductive``.

    Args:
        learner: see `evaluate`, also for image_set and progress.
        image_set: the images.
        split: its name in the manifests.
        shots: support images of a class, one table row each.
        way: classes of an episode.
        queries: query images of a class.
        episodes: inductive ones; None is 10,000 for frozen features and 600 where there is an inner loop.
        transductive_episodes: the first so many of the same episodes; 0 leaves the transductive score out, as does a
            learner that has no BatchNorm to look at them together with.
        seed: of the manifests.
        progress: see `evaluate`.
        executor: see `evaluate`.
    """
    frozen = learner.frozen_encoders is not None and learner.norm == "running"
    inductive: Norm = "support" if learner.norm == "query_batch" else learner.norm
    count = episodes or (FROZEN_EPISODES if frozen else EPISODES)
    table: dict[int, dict[str, Score]] = {}
    for shot in shots:
        longest = max(count, transductive_episodes)
        manifest = make_manifest(
            image_set, way=way, shot=shot, queries=queries, episodes=longest, seed=seed, split=split
        )
        many = manifest.first(count)
        table[shot] = {
            "inductive": evaluate(learner, image_set, many, norm=inductive, progress=progress, executor=executor)
        }
        if transductive_episodes and (learner.transductive != "query_batch" or norm_layers(learner)):
            few = manifest.first(transductive_episodes)
            table[shot]["transductive"] = evaluate_transductive(
                learner, image_set, few, progress=progress, executor=executor
            )
    return table
