"""What three EfficientNets from outside give, untrained and consolidated: 5-way 5-shot on classes of other domains.

    python reproduce/efficientnet/evaluate.py --zoo ZOOS/efficientnet --run RUN --data DATA --out results.jsonl

Reads the test classes of every set once; at most 30 images of a class, the first of each, for the teachers are slow.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from dfml.data import ImageSet, load_data
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.manifest import make_manifest
from dfml.learners import FrozenLearner
from dfml.learners.learner_file import load_learner
from dfml.methods import METHODS
from dfml.nn import AnsweringBackbone, Encoder, build_network, describe
from dfml.randomness import Rng
from dfml.zoo import Zoo

PER_CLASS, EPISODES, SHOT = 30, 2000, 5


def few(images: ImageSet) -> ImageSet:
    """The first images of every class."""
    kept = torch.cat([images.members[c][:PER_CLASS] for c in range(len(images.class_names))])
    return ImageSet(images.name, images.images[kept], images.labels[kept], images.class_names)


def untrained(learner: FrozenLearner) -> FrozenLearner:
    """The same network with random weights, its features compared as they are."""
    backbone = learner.networks[0].backbone
    inner = backbone.backbone if isinstance(backbone, AnsweringBackbone) else backbone
    with Rng(0).seeded("random"):
        return FrozenLearner(Encoder(build_network(describe(inner)), learner.networks[0].spec).eval(), head="ridge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("zoo", "run", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    zoo, student = Zoo.open(given.zoo), load_learner(given.run)
    ensemble = METHODS["zoo_ensemble"]
    learners = {
        "student, random weights": untrained(student),
        "student, consolidated": student,
        "one EfficientNet-lite0, features": ensemble(head="ridge").init(zoo.subset(["lite0"]), Rng(0)).learner,
        "zoo, features": ensemble(head="ridge").init(zoo, Rng(0)).learner,
        "zoo, answers and posterior": ensemble(compare="posterior", head="ridge").init(zoo, Rng(0)).learner,
    }
    for name in ("cub50_84", "cifar_fs", "glyphs"):
        images = few(load_data("glyphs" if name == "glyphs" else given.data / name).test)
        manifest = make_manifest(images, way=5, shot=SHOT, queries=15, episodes=EPISODES, seed=0, split="test")
        for label, learner in learners.items():
            start = time.perf_counter()
            score = evaluate(learner, images, manifest)
            row = {"data": name, "learner": label, "shot": SHOT, "images": len(images.labels)} | score.to_dict()
            row["seconds"] = round(time.perf_counter() - start, 1)
            print(json.dumps(row), flush=True)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
