"""Wall time of complete runs, from a zoo and a random learner to one reading of the test classes.

    python benchmarks/time_to_accuracy.py --data DATA [--zoo ZOO] [--recipes free fast] [--threads 2]

A run is a recipe with a fixed budget: FREE for 75 steps, and consolidation by the recipe `fast` as it is. Marks: the
published 39.1 (5-way 1-shot, transductive), and the mean single teacher of the zoo (inductive). Run it alone.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from dfml.compute.devices import cores
from dfml.data import DataSplits, load_data
from dfml.runs.results import evaluate_run
from dfml.runs.train import train
from dfml.zoo import Zoo
from run import KEPT
from timing import device, write

PUBLISHED = 39.1
BUDGETS: dict[str, dict[str, Any]] = {"free": {"steps": 75}, "fast": {}}


def measure(recipe: str, zoo: Zoo, data: DataSplits, threads: int) -> dict[str, Any]:
    """One line: seconds of training, and whether its reading passes the marks."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = train(zoo, out=Path(folder) / "run", recipe=recipe, overrides={"run.threads": threads}, **BUDGETS[recipe])
        seconds = time.perf_counter() - start
        rows = evaluate_run(run, data, baselines=True).results
    single = {row["shot"]: row["baselines"]["single_teacher_mean"]["mean"] for row in rows}
    accuracy = {f"{row['shot']}-shot": {k: v["mean"] for k, v in row["accuracy"].items()} for row in rows}
    passed = accuracy["1-shot"]["transductive"] >= PUBLISHED and all(
        accuracy[f"{shot}-shot"]["inductive"] > mean for shot, mean in single.items()
    )
    quality = {"accuracy": accuracy, "single_teacher_mean": single, "passes": passed}
    line = {"name": "time-to-accuracy", "ours_s": round(seconds, 1), "other": recipe, "repeats": 1, "device": device()}
    return line | {"zoo": zoo.hash, "steps": rows[0]["steps"], "quality": quality}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--recipes", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--threads", type=int, default=cores())
    args = parser.parse_args()
    zoo, data = Zoo.open(args.zoo), load_data(args.data)
    for recipe in args.recipes:
        line = measure(recipe, zoo, data, args.threads)
        write([line])
        print(f"{recipe}: {line['ours_s'] / 60:.1f} minutes for {line['steps']} steps; {line['quality']}")


if __name__ == "__main__":
    main()
