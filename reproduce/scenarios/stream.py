"""Models that arrive one domain after another, and what the learner still knows of the first.

    python reproduce/scenarios/stream.py --zoo ZOOS/domains --order cifar tiny cub glyphs --out RUNS \\
        --data DATA/cifar_fs DATA/tiny_imagenet_fs_32 DATA/cub50_84 glyphs

The zoo is that of `../mixed_zoos`; ids begin with the name of their domain. One run of the recipe `fast` begins with
the models of the first domain and goes on with those of the next (`dfml train --resume`). After each, and for a run on
all models at once, the test classes of every set are read: 5-way, 2,000 episodes, 30 images a class. One line a stage
and set goes to ``stream.jsonl``.
"""

import argparse
import json
import sys
from pathlib import Path

from dfml.data import load_data
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.manifest import make_manifest
from dfml.runs.run import Run
from dfml.runs.train import train
from dfml.zoo import Zoo

sys.path.append(str(Path(__file__).parents[1] / "mixed_zoos"))

from evaluate import EPISODES, SHOTS, few

RESULTS = Path(__file__).parent / "stream.jsonl"
FIRST, LATER = 24, 12  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("zoo", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("order", "data"):
        parser.add_argument(f"--{name}", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    zoo = Zoo.open(args.zoo)
    options = {"run.seed": args.seed, "run.threads": 1}
    ids: list[str] = []
    for stage, domain in enumerate(args.order):
        ids += [name for name in zoo.ids if name.startswith(domain)]
        run = train(
            zoo.subset(ids),
            out=args.out / f"stream-seed{args.seed}",
            recipe=None if stage else "fast",
            steps=FIRST + stage * LATER,
            resume=stage > 0,
            overrides=None if stage else options,
        )
        read(run, "+".join(args.order[: stage + 1]), args.data)
    steps = FIRST + LATER * (len(args.order) - 1)
    together = args.out / f"together-seed{args.seed}"
    read(train(zoo.subset(ids), out=together, recipe="fast", steps=steps, overrides=options), "together", args.data)


def read(run: Run, stage: str, sources: list[str]) -> None:
    """Accuracy on the test classes of every set."""
    for source in sources:
        images = few(load_data(source).test)
        manifests = [make_manifest(images, shot=s, episodes=EPISODES, split="test") for s in SHOTS]
        means = [round(evaluate(run.learner, images, manifest).mean, 2) for manifest in manifests]
        line = {"stage": stage, "data": Path(source).name, "shots": SHOTS, "means": means, "zoo": run.zoo.hash}
        line |= {"steps": run.state.step, "cpu_seconds": round(run.checkpoint["totals"]["cpu"])}
        print(json.dumps(line), flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
