"""What three EfficientNets from outside give, untrained and consolidated: 5-way 5-shot on classes of other domains.

    python reproduce/efficientnet/evaluate.py --zoo ZOOS/efficientnet --run RUN --data DATA --out results.jsonl

Reads the test classes of every set once; the first images of every class, for the teachers are slow.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from dfml.data import ImageSet, load_data
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.manifest import make_manifest
from dfml.learners import AbstractLearner, FrozenLearner
from dfml.learners.learner_file import load_learner
from dfml.methods import METHODS
from dfml.nn import AnsweringBackbone, Encoder, build_network, describe
from dfml.randomness import Rng
from dfml.zoo import Zoo

EPISODES, SHOT = 2000, 5


def few(images: ImageSet, per_class: int) -> ImageSet:
    """The first images of every class."""
    kept = torch.cat([images.members[c][:per_class] for c in range(len(images.class_names))])
    return ImageSet(images.name, images.images[kept], images.labels[kept], images.class_names)


def untrained(learner: FrozenLearner) -> FrozenLearner:
    """The same network with random weights, its features compared as they are."""
    backbone = learner.networks[0].backbone
    inner = backbone.backbone if isinstance(backbone, AnsweringBackbone) else backbone
    with Rng(0).seeded("random"):
        return FrozenLearner(Encoder(build_network(describe(inner)), learner.networks[0].spec).eval(), head="ridge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("zoo", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="without one, the zoo's features alone")
    parser.add_argument("--images", type=int, default=30, help="of a class")
    given = parser.parse_args()
    zoo, ensemble = Zoo.open(given.zoo), METHODS["zoo_ensemble"]
    learners: dict[str, AbstractLearner] = {
        "one EfficientNet-lite0, features": ensemble(head="ridge").init(zoo.subset(["lite0"]), Rng(0)).learner,
        "zoo, features": ensemble(head="ridge").init(zoo, Rng(0)).learner,
    }
    if given.run:
        student = load_learner(given.run)
        learners |= {
            "student, random weights": untrained(student),
            "student, consolidated": student,
            "zoo, answers and posterior": ensemble(compare="posterior", head="ridge").init(zoo, Rng(0)).learner,
        }
    for name in ("cub50_84", "cifar_fs", "glyphs"):
        images = few(load_data("glyphs" if name == "glyphs" else given.data / name).test, given.images)
        manifest = make_manifest(images, way=5, shot=SHOT, queries=15, episodes=EPISODES, seed=0, split="test")
        for label, learner in learners.items():
            start = time.perf_counter()
            score = evaluate(learner, images, manifest)
            row = {
                "data": name,
                "learner": label,
                "networks": len(zoo) if "zoo" in label else 1,
                "shot": SHOT,
                "images": len(images.labels),
            } | score.to_dict()
            row["seconds"] = round(time.perf_counter() - start, 1)
            print(json.dumps(row), flush=True)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
