"""A classifier from the zoo itself, without training: all its networks look at every image."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch

from dfml.data import load_support
from dfml.data.pictures import GROUND
from dfml.errors import InputError
from dfml.functional.heads import leave_one_out
from dfml.learners.base import Predictor, embed
from dfml.learners.confidence import left_out_of_heads, made_sure
from dfml.learners.frozen import FrozenLearner
from dfml.learners.task_classifier import TaskClassifier, largest_spec
from dfml.methods.zoo_ensemble import ZooEnsemble
from dfml.randomness import Rng
from dfml.zoo.store import Zoo

Compare = Literal["features", "answers", "posterior"]
MANY_CLASSES = 100  # of a teacher, from which on its features say more of a new class than its answers


@dataclass(frozen=True)
class ZooClassifier:
    """The classifier, and how it came about.

    Args:
        classifier: adapted to the support.
        compare: what of the networks is compared.
        scores: share of the support that each way classifies rightly from the rest of it, in percent; empty at one
            image of a class.
        milliseconds: of an image, all networks together, on this machine.
    """

    classifier: TaskClassifier
    compare: Compare
    scores: Mapping[Compare, float] = field(default_factory=dict)
    milliseconds: float = 0.0


@torch.no_grad()
def adapt_zoo(
    zoo: Zoo,
    support: str | Path,
    *,
    compare: Compare | None = None,
    models: int | None = None,
    calibrate: bool = True,
    reject: float | None = None,
    ground: str = GROUND,
) -> ZooClassifier:
    """Adapt a zoo to a new task, without training.

    Args:
        zoo: its models.
        support: a folder with a folder of a few images per class.
        compare: see `ZooEnsemble`; None takes what classifies the support best, each image from the others, and at one
            image of a class what suits the zoo: features of teachers of many classes, else answers and posterior.
        models: so many, chosen by what the zoo says of itself; None is all.
        calibrate: see `dfml.learners.confidence.adapt_surely`.
        reject: likewise.
        ground: the colour behind transparent pixels.

    Raises:
        InputError: a support that cannot be read; a zoo of which no network is at hand.
    """
    ways = [compare] if compare else usual_ways(zoo)
    learners = {way: ZooEnsemble(compare=way, head="ridge", models=models).init(zoo, Rng(0)).learner for way in ways}
    spec = max((largest_spec(learner.networks) for learner in learners.values()), key=lambda spec: spec.size)
    images, labels, names = load_support(support, spec, ground=ground)
    start = time.perf_counter()
    features = {way: embed(learner.networks, images) for way, learner in learners.items()}
    seconds = (time.perf_counter() - start) / len(ways)
    scores: dict[Compare, float] = {}
    if int(labels.bincount().min()) > 1:
        for way, values in features.items():
            right = leave_one_out(values @ values.T, labels).argmax(-1) == labels
            scores[way] = 100 * float(right.float().mean())
    chosen = max(ways, key=lambda way: scores.get(way, 0.0))  # the first of equals
    learner = learners[chosen]
    if not isinstance(learner, FrozenLearner):
        raise InputError(f"a learner of kind {learner.kind}", "one whose networks stay as they are", "tell us")
    weight, bias = learner.linear(features[chosen], labels)
    predictor = Predictor(learner.networks, weight, bias)
    sure = made_sure(
        predictor, *left_out_of_heads(learner, features[chosen], labels), calibrate=calibrate, reject=reject
    )
    shots = labels.bincount().tolist()
    made_by = learner.describe() | {"zoo": zoo.name, "compare": chosen}
    about = {"made_by": made_by, "shots": shots, "reject": reject, "confidence": asdict(sure.confidence)}
    classifier = TaskClassifier(sure.predictor, names, shots=shots, floor=sure.floor, about=about)
    return ZooClassifier(classifier, chosen, scores, 1000 * seconds / len(images))


def usual_ways(zoo: Zoo) -> list[Compare]:
    """What may be compared, what suits the zoo first."""
    sizes = [len(zoo.entry(i).class_ids) for i in zoo.ids]
    shared = sum(sizes) > len(zoo.class_ids)
    answers: list[Compare] = ["posterior" if shared else "answers"]
    features: list[Compare] = ["features"]
    return features + answers if max(sizes) > MANY_CLASSES else answers + features
