"""The rows that need no training: random, mean and best single teacher, average, zoo ensembles.

    python reproduce/baselines.py reproduce/cifar_fs/results.jsonl --zoo ZOO --data DATA

Nearest centroids unless a row says ridge or logistic, inductive, on the manifests of every other row; the best teacher
is chosen on validation classes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dfml.data import ImageSet, load_data
from dfml.evaluation.baselines import baseline_scores
from dfml.evaluation.evaluate import FROZEN_EPISODES, check_disjoint, evaluate
from dfml.evaluation.kernels import Coefficients, EpisodeKernels, joined_kernels
from dfml.evaluation.manifest import Manifest, make_manifest
from dfml.evaluation.score import Score
from dfml.functional.heads import centroid_coefficients, logistic_coefficients, ridge_coefficients
from dfml.methods import Average, ZooEnsemble
from dfml.randomness import Rng
from dfml.runs.provenance import commit
from dfml.zoo import Zoo

ROWS = {
    "random": ("random", "random"),
    "single-teacher-mean": ("single_teacher", "single_teacher_mean"),
    "single-teacher-best": ("single_teacher", "single_teacher_best"),
    "zoo-ensemble": ("zoo_ensemble", "zoo_ensemble"),
}
ENSEMBLES = {  # compared, head
    "zoo-ensemble-ridge": ("features", ridge_coefficients),
    "zoo-ensemble-logistic": ("features", logistic_coefficients),
    "zoo-ensemble-answers": ("answers", centroid_coefficients),
    "zoo-ensemble-answers-ridge": ("answers", ridge_coefficients),
    "zoo-ensemble-answers-logistic": ("answers", logistic_coefficients),
    "zoo-ensemble-posterior-ridge": ("posterior", ridge_coefficients),
}
FEW = {f"zoo-ensemble-of-{k}": k for k in (5, 20)}  # chosen without data, features, nearest centroids
AVERAGE = "parameter-average"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", type=Path, help="folder for the ensemble's accuracies by episode; see run_rows.py")
    args = parser.parse_args()
    zoo, data = Zoo.open(args.zoo), load_data(args.data)
    check_disjoint(zoo, data.test)
    shots = (1, 5)
    manifests, val = (
        [make_manifest(s, way=5, shot=k, episodes=FROZEN_EPISODES, split=n) for k in shots]
        for s, n in ((data.test, "test"), (data.val, "val"))
    )
    scores = baseline_scores(zoo, data.test, manifests, rng=Rng(0).at("baselines"), val=(data.val, val))
    lines = [
        line(name, shot, getattr(s, ROWS[name][1]), zoo, Path(data.name).stem)
        for shot, s in zip(shots, scores, strict=True)
        for name in ROWS
    ]
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        episodes = {f"{k}": s.zoo_ensemble.per_episode.numpy() for k, s in zip(shots, scores, strict=True)}
        np.savez(args.out / "zoo-ensemble-episodes.npz", **episodes)
    average = Average().init(zoo, Rng(0)).learner
    others = {AVERAGE: [evaluate(average, data.test, manifest) for manifest in manifests]}
    for name, by_shot in (others | ensembles(zoo, data.test, manifests)).items():
        lines += [line(name, k, score, zoo, Path(data.name).stem) for k, score in zip(shots, by_shot, strict=True)]
    old = [json.loads(t) for t in args.results.read_text().splitlines()] if args.results.exists() else []
    kept = [r for r in old if r["name"] not in (*ROWS, AVERAGE, *ENSEMBLES, *FEW)] + lines
    args.results.write_text("".join(json.dumps(r) + "\n" for r in sorted(kept, key=lambda r: (r["name"], r["shot"]))))


def ensembles(zoo: Zoo, images: ImageSet, manifests: list[Manifest]) -> dict[str, list[Score]]:
    """Every one of `ENSEMBLES` and `FEW` on each manifest."""
    scores: dict[str, list[Score]] = {}
    for compare in ("features", "answers", "posterior"):
        kernels = kernels_of(ZooEnsemble(compare=compare), zoo, images, manifests)
        heads = {name: head for name, (compared, head) in ENSEMBLES.items() if compared == compare}
        scores |= {name: [scored(k, head) for k in kernels] for name, head in heads.items()}
    for name, models in FEW.items():
        if models < len(zoo):
            kernels = kernels_of(ZooEnsemble(models=models), zoo, images, manifests)
            scores[name] = [scored(k, centroid_coefficients) for k in kernels]
    return scores


def kernels_of(ensemble: ZooEnsemble, zoo: Zoo, images: ImageSet, manifests: list[Manifest]) -> list[EpisodeKernels]:
    """One pass of every teacher over the images, for all heads and manifests."""
    encoders = ensemble.init(zoo, Rng(0)).learner.frozen_encoders or []
    return joined_kernels(encoders, images, manifests, normalise=True)


def scored(kernels: EpisodeKernels, head: Coefficients) -> Score:
    """The accuracies of a head."""
    return Score.of(kernels.accuracies(head), seconds=0.0, norm="running", manifest=kernels.manifest)


def line(name: str, shot: int, score: Score, zoo: Zoo, data: str) -> dict[str, Any]:
    """One line, with the keys of `dfml.runs.results`."""
    method = ROWS[name][0] if name in ROWS else "average" if name == AVERAGE else "zoo_ensemble"
    best = name == "single-teacher-best"
    return {
        "schema": 1,
        "name": name,
        "method": method,
        "headline": False,
        "recipe": None,
        "data": data,
        "split": "test",
        "scenario": "plain",
        "way": 5,
        "shot": shot,
        "queries": 15,
        "episodes": len(score.per_episode),
        "manifest": score.manifest.hash if score.manifest else None,
        "zoo": {"hash": zoo.hash, "recipe": zoo.recipe_hash, "models": len(zoo.ids), "architectures": ["conv4"]},
        "network": "conv4-32",
        "networks_at_inference": FEW.get(name, len(zoo)) if method == "zoo_ensemble" else 1,
        "norm_train": "running",
        "accuracy": {"inductive": score.to_dict()},
        "seeds": [0],
        "uses_data": best,  # the choice among teachers read validation classes
        "checkpoint": "chosen on val" if best else "none",
        "commit": commit(),
    }


if __name__ == "__main__":
    main()
