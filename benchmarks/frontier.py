"""The quality-time frontier of recovery: seconds against what a fixed student learns from the images.

    python benchmarks/frontier.py --data DATA [--others NAME ...] [--ratios 8 ...] [--seeds 1]

Every other way recovers from 20 teachers for a minute or two. Then ours does for that time divided by the ratio that it
claims. The same student is distilled for the same steps on what each gave (`student.py`) and judged on *validation*
classes; differences are paired. ``passes``: at both shots the lower bound of ours - theirs is at least -0.5 points.
With one seed the interval is that of the episodes; with several, each a recovery and a student of its own on either
side, it is that of the seeds, which is much wider. Lines go to ``results.jsonl``. Run it alone on the machine.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import mean, stdev
from typing import Any

import torch

from dfml.compute.devices import cores
from dfml.compute.memory import keep_freed_memory
from dfml.data import ImageSet, load_data
from dfml.evaluation.score import Score, paired_difference
from dfml.recipes.options import load_recipe
from dfml.recovery import AbstractRecovery, DeepInversion, MetaGenerator, PublishedMetaGenerator
from dfml.zoo import Zoo
from run import KEPT
from student import LABELS, distil, judge, recover_for
from timing import as_published, device, write

OURS = {"start": "natural", "steps": 66, "lr": 0.02}  # chosen on validation classes (benchmarks/README.md)
STEPS_ALONE = 200  # of a per-teacher generator; its last reading counts as one
CLAIMED = {"published": 15.0, "pixel inversion": 8.0, "per-teacher generator": 20.0}
SHARED = "meta-generator"  # our other way, that of the recipe `free`; nothing is claimed
LONGER = {"per-teacher generator": 2}  # times as long, so that a twentieth of it holds several visits
WORSE = 0.5  # points that count as equal
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36)  # 97.5 % quantiles, of two to eight seeds
Around = Callable[[], AbstractContextManager]
Taught = tuple[float, int, dict[int, list[Score]]]


def options(recipe: str) -> dict[str, Any]:
    return {k: v for k, v in load_recipe(recipe)["recovery"].items() if k != "name"}


def other(name: str) -> tuple[AbstractRecovery, Around]:
    if name == "published":
        return PublishedMetaGenerator(), as_published
    if name == "pixel inversion":
        return DeepInversion(), nullcontext
    alone = {"steps": STEPS_ALONE - 1, "meta_lr": 0.0} if name == "per-teacher generator" else {}
    return MetaGenerator(**options("free") | alone), nullcontext


def taught(zoo: Zoo, val: ImageSet, seconds: float, recovery: AbstractRecovery, inside: Around, seeds: int) -> Taught:
    """Seconds that recovery took and images, in the mean, and for each shot every seed's score of a student of them."""
    took, shown, scores = [], [], []
    for seed in range(seeds):
        with inside():
            bank, visits, spent = recover_for(seconds, recovery, zoo, seed)
        took.append(spent)
        shown.append(visits * len(LABELS))
        scores.append(judge(distil(zoo, bank, seed), val))
    return mean(took), round(mean(shown)), {shot: [score[shot] for score in scores] for shot in scores[0]}


def difference(mine: list[Score], theirs: list[Score]) -> tuple[float, float]:
    """Mean of ours - theirs, and half its 95 % interval: over episodes for one seed, over seeds for several."""
    pairs = [paired_difference(a, b) for a, b in zip(mine, theirs, strict=True)]
    if len(pairs) == 1:
        return pairs[0]
    gains = [gain for gain, _ in pairs]
    return mean(gains), STUDENT_T[len(gains) - 2] * stdev(gains) / len(gains) ** 0.5


def line(name: str, mine: Taught, theirs: Taught) -> dict:
    differences = {shot: difference(mine[2][shot], theirs[2][shot]) for shot in mine[2]}
    quality = {
        f"{shot}-shot": {
            "ours": round(mean(score.mean for score in mine[2][shot]), 2),
            "other": round(mean(score.mean for score in theirs[2][shot]), 2),
            "difference": round(gain, 2),
            "ci95": round(half, 2),
        }
        for shot, (gain, half) in differences.items()
    }
    return {
        "name": "frontier",
        "other": name,
        "ours_s": round(mine[0], 2),
        "other_s": round(theirs[0], 2),
        "ratio": round(theirs[0] / mine[0], 1),
        "images": {"ours": mine[1], "other": theirs[1]},
        "images_a_second": {"ours": round(mine[1] / mine[0], 1), "other": round(theirs[1] / theirs[0], 1)},
        "extrapolated": False,
        "floor_s": None,
        "repeats": len(mine[2][1]),
        "device": device(),
        "quality": quality | {"passes": all(gain - half >= -WORSE for gain, half in differences.values())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--others", nargs="+", default=list(CLAIMED), choices=[*CLAIMED, SHARED])
    parser.add_argument("--ratios", type=float, nargs="+", help="instead of those that are claimed")
    parser.add_argument(
        "--seeds", type=int, default=1, choices=range(1, 9), help="recoveries and students on either side"
    )
    parser.add_argument("--threads", type=int, default=cores())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    how = f", {args.seeds} seeds" * (args.seeds > 1)
    zoo, val, lines = Zoo.open(args.zoo), load_data(args.data).val, []
    ours = DeepInversion(**OURS)
    recover_for(1.0, ours, zoo)  # the machine's warm-up
    print("| other way | its seconds | images | ours | images | ratio | student, ours - theirs, 1 / 5 shots | passes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.others:
        theirs = taught(zoo, val, args.seconds * LONGER.get(name, 1), *other(name), args.seeds)
        for ratio in args.ratios or [CLAIMED.get(name, 1.0)]:
            mine = taught(zoo, val, theirs[0] / ratio, ours, nullcontext, args.seeds)
            lines.append(new := line(f"{name}, {ratio:g} x{how}", mine, theirs))
            seen = [new["quality"][f"{shot}-shot"] for shot in (1, 5)]
            gains = " / ".join(f"{q['difference']:+.1f} ± {q['ci95']:.1f}" for q in seen)
            cells = [name, f"{theirs[0]:.1f}", theirs[1], f"{mine[0]:.1f} s", mine[1], new["ratio"], gains]
            print("|", " | ".join(map(str, [*cells, "yes" if new["quality"]["passes"] else "no"])), "|", flush=True)
    write(lines)


if __name__ == "__main__":
    main()
