"""What a fixed student learns from the images of every way to recover, by the seconds that recovery took.

    python reproduce/recovery_frontier/curve.py --zoo ZOO --data DATA [--seconds 4 8 16 32 64] [--seeds 3]

Ways, student and judging are those of ``benchmarks/frontier.py``; every point is the mean over seeds of a recovery and
a student. Lines go to ``curve.jsonl``, those that it has are left alone; the plot to ``curve.png``. Run it alone on the
machine.
"""

import argparse
import json
import sys
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import matplotlib
import torch

from dfml.data import load_data
from dfml.harness.jobs import cores
from dfml.harness.memory import keep_freed_memory
from dfml.recovery import DeepInversion
from dfml.zoo import Zoo

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from frontier import CLAIMED, OURS, SHARED, other
from student import LABELS, distil, judge, recover_for

HERE = Path(__file__).parent
NATURAL = "natural start"
WAYS = [NATURAL, SHARED, *CLAIMED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--seconds", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    zoo, val, path = Zoo.open(args.zoo), load_data(args.data).val, HERE / "curve.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["way"], row["asked_s"], row["seed"]) for row in rows}
    recover_for(1.0, DeepInversion(**OURS), zoo)  # the machine's warm-up
    for seed, seconds, way in product(range(args.seeds), args.seconds, WAYS):
        if (way, seconds, seed) in done:
            continue
        recovery, inside = (DeepInversion(**OURS), nullcontext) if way == NATURAL else other(way)
        with inside():
            bank, visits, took = recover_for(seconds, recovery, zoo, seed)
        scores = judge(distil(zoo, bank, seed), val)
        row = {"way": way, "asked_s": seconds, "seed": seed, "seconds": round(took, 2), "images": visits * len(LABELS)}
        row |= {f"val_{shot}shot": round(score.mean, 2) for shot, score in scores.items()} | {"zoo": zoo.hash}
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
    show(rows)


def show(rows: list[dict]) -> None:
    """A table of means over seeds, and the curves."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    print("\n| way | seconds | images | student, 1-shot | 5-shot | seeds |\n|---|---|---|---|---|---|")
    for way in WAYS:
        points = []
        for asked in sorted({row["asked_s"] for row in rows if row["way"] == way}):
            same = [row for row in rows if (row["way"], row["asked_s"]) == (way, asked)]
            one, five, seconds, images = (
                [row[key] for row in same] for key in ("val_1shot", "val_5shot", "seconds", "images")
            )
            spread = stdev(one) if len(one) > 1 else 0.0
            points.append((mean(seconds), mean(one), spread))
            cells = [
                way,
                f"{mean(seconds):.1f}",
                round(mean(images)),
                f"{mean(one):.1f}",
                f"{mean(five):.1f}",
                len(one),
            ]
            print("|", " | ".join(map(str, cells)), "|")
        x, y, error = zip(*points, strict=True)
        axes.errorbar(x, y, yerr=error, fmt="o-", capsize=3, label=way)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="seconds of recovery", ylabel="student, 5-way 1-shot on val classes (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(HERE / "curve.png", dpi=120)


if __name__ == "__main__":
    main()
