"""Judge one consolidated network, single teachers and ensembles of a mixed zoo on the test classes of several sets.

    python reproduce/mixed_zoos/evaluate.py --zoo ZOOS/domains --run RUNS/domains --out results.jsonl \\
        --data DATA/cifar_fs DATA/cub50_84 DATA/tiny_imagenet_fs_32 glyphs

Test classes are read once a row. The best single teacher is chosen on validation classes.
"""

import argparse
import json
from pathlib import Path

import torch

from dfml.data import ImageSet, load_data
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.kernels import joined_kernels
from dfml.evaluation.manifest import Manifest, make_manifest
from dfml.functional.heads import centroid_coefficients
from dfml.learners.learner_file import load_learner
from dfml.methods import METHODS
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.zoo import Zoo

PER_CLASS, EPISODES, SHOTS = 30, 2000, (1, 5)
EPISODE = {"way": 5, "queries": 15, "episodes": EPISODES}


def few(images: ImageSet) -> ImageSet:
    """The first images of every class."""
    kept = torch.cat([images.members[c][:PER_CLASS] for c in range(len(images.class_names))])
    return ImageSet(images.name, images.images[kept], images.labels[kept], images.class_names)


def teachers(zoo: Zoo, images: ImageSet, manifests: list[Manifest]) -> dict[str, list[float]]:
    """Accuracy of each teacher's features alone, nearest centroids, for each manifest."""
    found = {}
    for name in zoo.ids:
        encoder = Encoder(zoo.network(name).backbone, zoo.cards[name].input_spec)
        kernels = joined_kernels([encoder], images, manifests, normalise=True)
        found[name] = [float(each.accuracies(centroid_coefficients).mean()) for each in kernels]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("zoo", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    given = parser.parse_args()
    zoo, ensemble = Zoo.open(given.zoo), METHODS["zoo_ensemble"]
    learners = {run.name: load_learner(run) for run in given.run}
    learners |= {
        "zoo ensemble (features)": ensemble().init(zoo, Rng(0)).learner,
        "zoo ensemble (answers and joint posterior, ridge)": ensemble(compare="posterior", head="ridge")
        .init(zoo, Rng(0))
        .learner,
    }
    alone: dict[str, list[dict[str, list[float]]]] = {"val": [], "test": []}
    read: dict[str, list[list[float]]] = {label: [] for label in learners}
    for source in given.data:
        data = load_data(source)
        parts = {"val": few(data.val), "test": few(data.test)}
        manifests = {
            split: [
                make_manifest(images, way=5, shot=s, queries=15, episodes=EPISODES, seed=0, split=split) for s in SHOTS
            ]
            for split, images in parts.items()
        }
        for split, images in parts.items():
            alone[split].append(teachers(zoo, images, manifests[split]))
        rows = singles([alone["val"][-1]], [alone["test"][-1]])
        for label, learner in learners.items():
            rows[label] = [evaluate(learner, parts["test"], m).mean for m in manifests["test"]]
            read[label].append(rows[label])
        write(given.out, zoo, Path(source).name, rows)
    if len(given.data) > 1:
        means = {label: [sum(each) / len(each) for each in zip(*of, strict=True)] for label, of in read.items()}
        write(given.out, zoo, "mean", singles(alone["val"], alone["test"]) | means)


def singles(val: list[dict[str, list[float]]], test: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Single teachers in the mean of some sets: of all, and of the one that is best on their validation classes."""
    rows: dict[str, list[float]] = {"single teacher, mean": [], "single teacher, best on val": []}
    for i in range(len(SHOTS)):
        known = {name: sum(each[name][i] for each in val) for name in val[0]}
        reached = {name: sum(each[name][i] for each in test) / len(test) for name in val[0]}
        rows["single teacher, mean"].append(sum(reached.values()) / len(reached))
        rows["single teacher, best on val"].append(reached[max(known, key=lambda name: known[name])])
    return rows


def write(out: Path, zoo: Zoo, data: str, rows: dict[str, list[float]]) -> None:
    """A line for each learner."""
    for label, means in rows.items():
        row = {"schema": 1, "zoo": zoo.name, "hash": zoo.hash, "data": data, "learner": label}
        row |= {"shots": SHOTS, "means": [round(mean, 2) for mean in means], "episodes": EPISODES, "split": "test"}
        print(json.dumps(row), flush=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
