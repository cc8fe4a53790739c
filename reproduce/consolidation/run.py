"""What the parts of consolidation are worth, and where the knowledge gets lost.

    python reproduce/consolidation/run.py --zoo ZOO --data DATA [--cells NAME ...] [--no-flip] [--results FILE]

A cell changes one thing of the cell ``recovered``: every teacher of the zoo answers on 12,800 recovered images,
distorted and mixed as the recipe `best` does; a student learns the answers for 1,500 updates, as `Consolidate` does,
and is judged on *validation* classes. Lines go to ``results.jsonl``; cells that it has are left alone. At the end the
tables are printed. ``--no-flip`` is for images that a mirror makes another class of.
"""

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from relations import RelatedConsolidate, Relations, with_features
from torch import Tensor

from dfml.data import DataSplits, load_data
from dfml.evaluation.kernels import EpisodeKernels, embed_all, joined_kernels
from dfml.evaluation.manifest import make_manifest
from dfml.functional.augmentation import distort_images, mix_images, shift_and_flip
from dfml.functional.drawing import dead_leaves
from dfml.functional.heads import centroid_coefficients, ridge_coefficients
from dfml.functional.priors import batchnorm_norms
from dfml.methods.consolidate import Consolidate
from dfml.methods.consolidate_state import ConsolidateState
from dfml.methods.zoo_ensemble import ZooEnsemble
from dfml.nn import Encoder, as_floats
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, DeepInversion, MetaGenerator, Visit
from dfml.training.bank import AnswerBank, as_bytes
from dfml.training.lesson import WARM_UP
from dfml.zoo import Zoo

PER_VISIT, UPDATES_A_ROUND = 100, 30
HEADS = {"centroid": centroid_coefficients, "ridge": ridge_coefficients}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """Images of a kind, how they are varied, and how a student learns from the answers."""

    kind: str = "recovered"
    images: int = 12_800
    distortion: float = 1.6
    mixed: float = 0.6
    beside: str | None = None  # as many images of another kind, only shifted and mirrored
    updates: int = 1500
    decay: bool = True  # of the step size
    relations: tuple[Relations, float] | None = None  # a second target, and its weight
    method: dict[str, Any] = field(default_factory=dict)


GROWING = {"network": "conv4_growing"}
CELLS = {
    "recovered": Cell(),
    "hidden-0": Cell(method={"hidden": 0}),
    "temperature-1": Cell(method={"temperature": 1.0}),
    "temperature-4": Cell(method={"temperature": 4.0}),
    "width-64": Cell(method={"width": 64}),
    "updates-4500": Cell(updates=4500),
    "no-average": Cell(method={"average_decay": 0.0}),
    "no-decay": Cell(decay=False),
    "no-decay-no-average": Cell(decay=False, method={"average_decay": 0.0}),
    "similar-answers-10": Cell(relations=("answers", 10.0)),
    "similar-features-1": Cell(relations=("features", 1.0)),
    "similar-features-10": Cell(relations=("features", 10.0)),
    "images-3200": Cell(images=3200),
    "images-25600": Cell(images=25_600),
    "late": Cell("late"),
    "bn-0": Cell("bn-0"),
    "bn-0.3": Cell("bn-0.3"),
    "bn-3": Cell("bn-3"),
    "natural-start": Cell("natural-start"),
    "natural-start-plain": Cell("natural-start", distortion=0.0, mixed=0.0),
    "natural-start-mild": Cell("natural-start", distortion=0.8, mixed=0.3),
    "recovered-plain": Cell(distortion=0.0, mixed=0.0),
    "distortion-2.5": Cell(distortion=2.5),
    "mixed-0": Cell(mixed=0.0),
    "real": Cell("real"),
    "real-plain": Cell("real", distortion=0.0, mixed=0.0),
    "growing": Cell(method=GROWING),
    "growing-beside-natural": Cell(beside="natural-start", method=GROWING),
    "growing-beside-leaves": Cell(beside="leaves", method=GROWING),
    "growing-real-plain": Cell("real", distortion=0.0, mixed=0.0, method=GROWING),
    "glyphs": Cell("glyphs"),
    "noise": Cell("noise"),
}


def real(bench: "Bench", images: int) -> Tensor:
    """The classes that the teachers were trained on: not data-free, the upper end."""
    return _some(bench.data.train.images, images)


def glyphs(bench: "Bench", images: int) -> Tensor:
    """Images of another domain."""
    return _some(load_data("glyphs").train.images, images)


def _some(data: Tensor, images: int) -> Tensor:
    return as_floats(data[torch.randint(len(data), (images,), generator=Rng(0).generator("images"))])


def noise(bench: "Bench", images: int) -> Tensor:
    """Coloured noise, coarse and fine, as natural images have more of the coarse."""
    g, size = Rng(0).generator("noise"), (bench.zoo.canvas.size,) * 2
    octaves = (torch.randn(images, 3, k, k, generator=g) * k**-0.7 for k in (2, 4, 8, 16, 32))
    return (0.5 + 0.25 * sum(F.interpolate(o, size, mode="bicubic") for o in octaves)).clamp(0, 1)


def recovered(bench: "Bench", images: int, *, by: Callable[..., AbstractRecovery] = MetaGenerator) -> Tensor:
    """What the meta-generator (or another recovery) shows while it learns, one teacher after the other."""
    zoo, labels = bench.zoo, torch.arange(5).repeat(PER_VISIT // 5)
    recovery = by(flip=bench.flip)
    state = recovery.init(zoo.canvas, Rng(0))
    shown = []
    for visit in range(images // PER_VISIT):
        rng = Rng(0).at("visit", visit)
        teacher = zoo.teacher(zoo.ids[torch.randint(len(zoo), (1,), generator=rng.generator("teacher")).item()])
        shown.append(recovery.recover(state, [Visit(teacher, labels)], rng=rng)[0].images)
    return torch.cat(shown)


def leaves(bench: "Bench", images: int) -> Tensor:
    """Overlapping shapes, as `--method.drawn` draws them."""
    canvas = bench.zoo.canvas
    return dead_leaves(images, canvas.channels, canvas.size, Rng(0).generator("leaves"))


def late(bench: "Bench", images: int) -> Tensor:
    """Of twice as many visits the second half."""
    return bench.images("recovered", 2 * images)[images:]


KINDS = {"noise": noise, "glyphs": glyphs, "recovered": recovered, "real": real, "late": late, "leaves": leaves}
KINDS |= {f"bn-{w:g}": partial(recovered, by=partial(MetaGenerator, bn_weight=w)) for w in (0.0, 0.3, 3.0)}
KINDS["natural-start"] = partial(recovered, by=partial(DeepInversion, start="natural", steps=66, lr=0.02))


class Bench:
    """A zoo, data, and what cells share: the images of a kind, and teachers' answers on them."""

    def __init__(self, zoo: Zoo, data: DataSplits, *, flip: bool = True):
        self.zoo, self.data, self.flip = zoo, data, flip
        self.images = cache(lambda kind, count: KINDS[kind](self, count))
        self.bank = lru_cache(1)(self._bank)
        self.bank_with_features = lru_cache(1)(lambda *of: with_features(self.bank(*of), zoo))
        self.manifests = [make_manifest(data.val, way=5, shot=k, episodes=10_000, split="val") for k in (1, 5)]

    def _bank(self, kind: str, count: int, distortion: float, mixed: float) -> AnswerBank:
        """All teachers' answers on the varied images."""
        images = shift_and_flip(self.images(kind, count), Rng(0).generator("augment"), flip=self.flip)
        images = distort_images(images, Rng(0).generator("distort"), strength=distortion)
        images = as_bytes(mix_images(images, Rng(0).generator("mix"), share=mixed))
        bank = AnswerBank(capacity=count, shape=tuple(images.shape[1:]), outputs=5 * len(self.zoo))
        for batch in images.split(2000):
            bank.add(batch, torch.cat([self.zoo.teacher(i).answers(as_floats(batch)) for i in self.zoo.ids], -1))
        return bank

    def image_facts(self, bank: AnswerBank) -> dict[str, float | None]:
        """What teachers make of the images: how sure they are (mean highest probability), how often two that share
        classes prefer the same of these (percent), and how far the BatchNorm statistics are from their own.
        """
        ids = [self.zoo.entry(i).class_ids for i in self.zoo.ids]
        answers = bank.answers[:, : 5 * len(ids)].float()
        same = []
        for a, b in combinations(range(len(ids)), 2):
            if len(both := sorted(set(ids[a]) & set(ids[b]))) > 1:
                columns = ([5 * t + ids[t].index(c) for c in both] for t in (a, b))
                first, second = (answers[:, list(c)].argmax(1) for c in columns)
                same.append(float((first == second).float().mean()))
        distances = []
        for name in self.zoo.ids[:10]:
            teacher = self.zoo.teacher(name)
            with torch.no_grad():
                seen = teacher.forward(as_floats(bank.images[:1000]), statistics=True)
            distances.append(float(batchnorm_norms(seen.statistics)))
        sure = answers.unflatten(1, (-1, 5)).softmax(-1).amax(-1).mean()
        return {
            "sure": round(100 * float(sure), 1),
            "agreement": round(100 * fmean(same), 1) if same else None,  # none share classes
            "statistics_distance": round(fmean(distances), 1),
        }

    def student(self, cell: Cell) -> tuple[ConsolidateState, float]:
        """A student of these answers, and its last divergence."""
        options = {"recovery": MetaGenerator(), "validation_teachers": 0, "updates": UPDATES_A_ROUND, "capacity": 1}
        if cell.relations:
            relations, weight = cell.relations
            method = RelatedConsolidate(relations=relations, weight=weight, **options, **cell.method)
        else:
            method = Consolidate(**options, **cell.method)
        state = method.init(self.zoo, Rng(0))
        banked = self.bank_with_features if cell.relations else self.bank
        state.bank = banked(cell.kind, cell.images, cell.distortion, cell.mixed)
        if cell.beside:
            state.bank = joined(state.bank, self._bank(cell.beside, cell.images, 0.0, 0.0))
        for done in range(0, cell.updates, UPDATES_A_ROUND):
            share = done / cell.updates if cell.decay else min(done / cell.updates, WARM_UP)
            divergence = method.learn(state, Rng(1).at(done), updates=UPDATES_A_ROUND, done=share)
        return state, divergence

    def scores(self, features: Tensor) -> dict[str, list[float]]:
        """1-shot and 5-shot accuracy of the features, normalised, under each head."""
        kernels = [EpisodeKernels.zeros(manifest) for manifest in self.manifests]
        for kernel in kernels:
            kernel.add(F.normalize(features, dim=-1))
        return self.by_head(kernels)

    @staticmethod
    def by_head(kernels: list[EpisodeKernels]) -> dict[str, list[float]]:
        """Mean accuracy on each manifest."""
        return {name: [round(float(k.accuracies(head).mean()), 2) for k in kernels] for name, head in HEADS.items()}

    def compared(self, student: Encoder) -> dict[str, dict[str, list[float]]]:
        """What a student's images can be compared by: its last block, all probabilities, their roots, its answers,
        these with the joint posterior or the hidden layer, and with both, which is what a learner uses.
        """
        alone = copy.deepcopy(student)
        alone.backbone.hidden, alone.backbone.joint = 0, None  # says what is joined, not what is computed
        answers = embed_all(alone, self.data.val, normalise=False)
        joined = embed_all(student, self.data.val, normalise=False)
        hidden = student.backbone.hidden
        unit, rest = joined.tensor_split([answers.shape[1]], -1)
        posterior, layer = rest.tensor_split([rest.shape[1] - hidden], -1)
        roots = answers + student.backbone.origin
        block = Encoder(student.backbone.backbone, student.spec)
        kinds = {"features": embed_all(block, self.data.val, normalise=False), "probabilities": roots**2}
        kinds |= {"roots": roots, "answers": answers, "with posterior": torch.cat([unit, posterior], -1)}
        kinds |= {"with hidden": torch.cat([unit, layer], -1), "joined": joined}
        return {name: self.scores(features) for name, features in kinds.items()}

    def zoo_itself(self, compare: str) -> dict[str, list[float]]:
        """The zoo ensemble, by ``features`` or by ``answers``."""
        encoders = ZooEnsemble(compare=compare).init(self.zoo, Rng(0)).learner.frozen_encoders
        return self.by_head(joined_kernels(encoders, self.data.val, self.manifests, normalise=True))


def joined(one: AnswerBank, other: AnswerBank) -> AnswerBank:
    """The images and answers of both."""
    both = AnswerBank(capacity=len(one) + len(other), shape=tuple(one.images.shape[1:]), outputs=one.answers.shape[1])
    for bank in (one, other):
        both.add(bank.images, bank.answers.float())
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cells", nargs="*", default=[*CELLS, "zoo"], choices=[*CELLS, "zoo"])
    parser.add_argument("--no-flip", action="store_true")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, path = Zoo.open(args.zoo), args.results
    bench = Bench(zoo, load_data(args.data), flip=not args.no_flip)
    done = {json.loads(line)["cell"] for line in path.read_text().splitlines()} if path.exists() else set()
    for name in [n for n in args.cells if n not in done]:
        row: dict[str, Any] = {"cell": name, "split": "val", "zoo": zoo.hash}
        if name == "zoo":
            row["val"] = {compare: bench.zoo_itself(compare) for compare in ("features", "answers")}
        else:
            state, divergence = bench.student(CELLS[name])
            row |= {"images": len(state.bank), "updates": CELLS[name].updates, "divergence": round(divergence, 4)}
            row |= {"val": bench.compared(state.average), "answers": bench.image_facts(state.bank)}
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print_tables([json.loads(line) for line in path.read_text().splitlines()])


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Markdown: what each cell reaches by its answers, then what can be compared."""
    both = "{} / {}".format
    print("\n| cell | centroids | ridge | sure | agree | statistics distance |\n|---|---|---|---|---|---|")
    for row in rows:
        if row["cell"] != "zoo":
            facts = row["answers"]
            scores = [both(*row["val"]["answers"][head]) for head in HEADS]
            print("|", " | ".join([row["cell"], *scores, *(str(v) for v in facts.values())]), "|")
    print("\n| network | compared | centroids | ridge |\n|---|---|---|---|")
    for row in rows:
        if row["cell"] in ("zoo", "recovered"):
            for compared, scores in row["val"].items():
                print("|", " | ".join([row["cell"], compared, *(both(*scores[head]) for head in HEADS)]), "|")


if __name__ == "__main__":
    main()
