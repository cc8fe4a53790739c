"""The baselines beside every run: random, single teachers and the zoo ensemble; each teacher embeds once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.compute.executor import SERIAL, Executor, in_order, parts
from dfml.data.image_set import ImageSet
from dfml.errors import InputError
from dfml.evaluation.evaluate import Progress, evaluate
from dfml.evaluation.kernels import EpisodeKernels, embed_all
from dfml.evaluation.manifest import Manifest
from dfml.evaluation.score import Score
from dfml.functional.heads import centroid_coefficients
from dfml.methods.random import Random
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.zoo.store import Zoo


@dataclass(frozen=True)
class BaselineScores:
    """Baselines on the episodes of one manifest: nearest centroids, ``running`` statistics (inductive).

    Args:
        random: a randomly initialised network of the zoo's architecture.
        teachers: the mean accuracy of each teacher alone, in percent, by id.
        single_teacher_mean: mean over teachers, episode by episode, so that paired differences have a meaning.
        single_teacher_best: the best teacher alone.
        best_teacher: its id.
        best_chosen_on: ``this reading`` (optimistic: chosen on the episodes it is reported on) or ``val``.
        zoo_ensemble: all teachers, features concatenated.
    """

    random: Score
    teachers: dict[str, float]
    single_teacher_mean: Score
    single_teacher_best: Score
    best_teacher: str
    best_chosen_on: str
    zoo_ensemble: Score

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        best = {"teacher": self.best_teacher, "chosen_on": self.best_chosen_on}
        return {
            "random": self.random.to_dict() | {"networks_at_inference": 1},
            "single_teacher_mean": self.single_teacher_mean.to_dict() | {"networks_at_inference": 1},
            "single_teacher_best": self.single_teacher_best.to_dict() | {"networks_at_inference": 1} | best,
            "zoo_ensemble": self.zoo_ensemble.to_dict() | {"networks_at_inference": len(self.teachers)},
            "teachers": {i: round(mean, 3) for i, mean in self.teachers.items()},
        }


@dataclass
class _Reading:
    """Teachers' accuracies on one manifest, their summed kernels, and the seconds of all jobs together."""

    ensemble: EpisodeKernels
    accuracies: dict[str, Float[Tensor, " episodes"]]
    seconds: float

    def merge(self, other: "_Reading") -> "_Reading":
        self.ensemble.merge(other.ensemble)
        self.accuracies |= other.accuracies
        self.seconds += other.seconds
        return self

    def best(self) -> str:
        return max(self.accuracies, key=lambda i: float(self.accuracies[i].mean()))


def baseline_scores(
    zoo: Zoo,
    image_set: ImageSet,
    manifests: Sequence[Manifest],
    *,
    rng: Rng,
    val: tuple[ImageSet, Sequence[Manifest]] | None = None,
    progress: Progress | None = None,
    executor: Executor = SERIAL,
) -> list[BaselineScores]:
    """Baselines for each manifest of ``image_set``.

    Args:
        zoo: the teachers.
        image_set: what the manifests belong to.
        manifests: one for each shot.
        rng: of the random network.
        val: images and one manifest for each of ``manifests``, to choose the best teacher on; None chooses on the
            reported reading, and says so.
        progress: called with teachers done and to do.
        executor: what teachers are shared out to, some consecutive ones each. Kernels are sums over teachers, so that
            the ensemble with several workers differs from that with one by the order of the summation alone.

    Raises:
        InputError: a manifest of other images, images of another size, or not one val manifest for each manifest.
    """
    if val is not None and len(val[1]) != len(manifests):
        raise InputError(f"{len(val[1])} val manifests", f"{len(manifests)}, one for each shot", "make the same shots")
    sets = [(image_set, list(manifests))] + ([(val[0], list(val[1]))] if val is not None else [])
    total = len(zoo.ids) * len(sets)
    readings = []
    for k, (images, wanted) in enumerate(sets):
        readings.append(_read(zoo, images, wanted, executor, _shifted(progress, k * len(zoo.ids), total)))
    random = Random().init(zoo, rng).learner
    scores = []
    for i, reading in enumerate(readings[0]):
        best = readings[-1][i].best()
        chosen_on = "this reading" if val is None else "val"
        scores.append(_scores(reading, evaluate(random, image_set, reading.ensemble.manifest), best, chosen_on))
    return scores


def _shifted(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total) if progress else None


def _read(
    zoo: Zoo, image_set: ImageSet, manifests: list[Manifest], executor: Executor, progress: Callable[[int], None]
) -> list[_Reading]:
    for manifest in manifests:
        manifest.check(image_set)
    whole: list[_Reading] = []
    read = partial(_read_teachers, zoo, image_set, manifests)
    for part in in_order(executor, read, parts(len(zoo.ids), executor)):
        whole = _merged(whole, part) if whole else part
        progress(len(whole[0].accuracies))
    return whole


def _read_teachers(zoo: Zoo, image_set: ImageSet, manifests: list[Manifest], part: range) -> list[_Reading]:
    """One job: a reading of these teachers for each manifest."""
    return reduce(_merged, (_read_teacher(zoo, image_set, manifests, zoo.ids[i]) for i in part))


def _read_teacher(zoo: Zoo, image_set: ImageSet, manifests: list[Manifest], name: str) -> list[_Reading]:
    start = time.perf_counter()
    backbone, spec = zoo.network(name).backbone, zoo.cards[name].input_spec
    features = embed_all(Encoder(backbone, spec), image_set, normalise=True)
    embedding = time.perf_counter() - start
    readings = []
    for manifest in manifests:
        start = time.perf_counter()
        alone = EpisodeKernels.zeros(manifest)
        alone.add(features)
        accuracies = alone.accuracies(centroid_coefficients)
        # Each shot's row carries the whole embedding: that is what it would cost alone.
        readings.append(_Reading(alone, {name: accuracies}, embedding + time.perf_counter() - start))
    return readings


def _merged(readings: list[_Reading], others: list[_Reading]) -> list[_Reading]:
    return [reading.merge(other) for reading, other in zip(readings, others, strict=True)]


def _scores(reading: _Reading, random: Score, best: str, chosen_on: str) -> BaselineScores:
    def score(per_episode: Tensor, seconds: float) -> Score:
        return Score.of(per_episode, seconds=seconds, norm="running", manifest=reading.ensemble.manifest)

    accuracies = reading.accuracies
    return BaselineScores(
        random=random,
        teachers={i: float(a.mean()) for i, a in accuracies.items()},
        single_teacher_mean=score(torch.stack(list(accuracies.values())).mean(0), reading.seconds),
        single_teacher_best=score(accuracies[best], reading.seconds / len(accuracies)),
        best_teacher=best,
        best_chosen_on=chosen_on,
        zoo_ensemble=score(reading.ensemble.accuracies(centroid_coefficients), reading.seconds),
    )
