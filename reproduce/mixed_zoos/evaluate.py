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
    for source in given.data:
        data = load_data(source)
        parts = {"val": few(data.val), "test": few(data.test)}
        manifests = {
            split: [
                make_manifest(images, way=5, shot=s, queries=15, episodes=EPISODES, seed=0, split=split) for s in SHOTS
            ]
            for split, images in parts.items()
        }
        alone = {split: teachers(zoo, images, manifests[split]) for split, images in parts.items()}
        rows: dict[str, list[float]] = {}
        rows["single teacher, mean"] = [sum(a[i] for a in alone["test"].values()) / len(zoo) for i in range(len(SHOTS))]
        best = [max(zoo.ids, key=lambda name, i=i: alone["val"][name][i]) for i in range(len(SHOTS))]
        rows["single teacher, best on val"] = [alone["test"][name][i] for i, name in enumerate(best)]
        for label, learner in learners.items():
            rows[label] = [evaluate(learner, parts["test"], m).mean for m in manifests["test"]]
        for label, means in rows.items():
            row = {"schema": 1, "zoo": zoo.name, "hash": zoo.hash, "data": Path(source).name, "learner": label}
            row |= {"shots": SHOTS, "means": [round(mean, 2) for mean in means], "episodes": EPISODES, "split": "test"}
            print(json.dumps(row), flush=True)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
