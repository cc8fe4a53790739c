"""What bfloat16 changes: a recipe trained with it and in float32, judged on the same validation episodes.

    python benchmarks/precision.py --data DATA [--zoo ZOO] [--recipe fast] [--threads 2]

Needs a CPU that multiplies in bfloat16; elsewhere nothing is ever computed in it. One line goes to ``results.jsonl``.
"""

import argparse
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

from dfml.compute.devices import cores
from dfml.data import DataSplits, load_data
from dfml.evaluation.score import Score, paired_difference
from dfml.runs.results import evaluate_run
from dfml.runs.train import train
from dfml.zoo import Zoo
from run import KEPT
from timing import device, write


def trained(
    zoo: Zoo, data: DataSplits, recipe: str, threads: int, inside: AbstractContextManager
) -> tuple[float, dict[int, Score]]:
    """Seconds of the run, and its inductive scores by shot."""
    with tempfile.TemporaryDirectory() as folder, inside:
        start = time.perf_counter()
        run = train(zoo, out=Path(folder) / "run", recipe=recipe, overrides={"run.threads": threads})
        seconds = time.perf_counter() - start
        scores = evaluate_run(run, data, split="val", transductive=False).scores
    return seconds, {shot: kinds["inductive"] for shot, kinds in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--threads", type=int, default=cores())
    args = parser.parse_args()
    zoo, data = Zoo.open(args.zoo), load_data(args.data)
    float32 = patch("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    ours_s, ours = trained(zoo, data, args.recipe, args.threads, nullcontext())
    other_s, other = trained(zoo, data, args.recipe, args.threads, float32)
    quality = {}
    for shot, score in ours.items():
        mean, half = paired_difference(score, other[shot])
        quality[f"{shot}-shot"] = {"bfloat16": round(score.mean, 2), "float32": round(other[shot].mean, 2)}
        quality[f"{shot}-shot"] |= {"difference": round(mean, 2), "ci95": round(half, 2)}
    line = {"name": "precision", "ours_s": round(ours_s, 1), "other": f"{args.recipe}, float32"}
    line |= {"other_s": round(other_s, 1), "ratio": round(other_s / ours_s, 2), "extrapolated": False, "floor_s": None}
    line |= {"repeats": 1, "device": device(), "split": "val", "quality": quality}
    write([line])
    print(f"bfloat16 {ours_s:.0f} s, float32 {other_s:.0f} s; {quality}")


if __name__ == "__main__":
    main()
