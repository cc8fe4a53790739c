"""The quality-time frontier of recovery: what a fixed student learns from a minute of each way to recover.

    python reproduce/recovery_frontier/run.py --zoo ZOO --data DATA [--seconds 60] [--cells NAME ...]

Each cell recovers for the same time from the first 20 teachers (meta-training of the generator included, one thread),
then the same student is distilled for the same number of steps on what was recovered: every step six random teachers
answer on all images of the batch, true KL, Adam with one cycle of the learning rate, shifts and flips. The student is
judged by nearest centroids on *validation* classes. Lines go to ``results.jsonl``, the plot to ``frontier.png``.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib
import torch

from dfml.data import load_data
from dfml.functional.priors import batchnorm_norms
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.recovery.meta_generator import MetaGeneratorState
from dfml.zoo import Zoo

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from student import LABELS, PER_VISIT, STUDENT_STEPS, TEACHERS, distil, judge, recover_for

HERE = Path(__file__).parent
CELLS = {
    f"{generator}-bn{weight:g}": {"generator": generator, "bn_weight": weight}
    for generator in ("pixelshuffle", "published")
    for weight in (0.0, 1.0, 10.0)
}


def winner_steps(winner: str) -> dict[str, dict]:
    """The winner with 2 and with 10 inner steps; the meta step size stays steps x lr."""
    return {f"{winner}-steps{k}": CELLS[winner] | {"steps": k, "lr": lr} for k, lr in ((2, 5e-3), (10, 2e-3))}


def image_quality(zoo: Zoo, recovery: MetaGenerator, state: MetaGeneratorState) -> dict[str, float]:
    """What some teachers make of new images of theirs, percent in the wanted class and distance of the statistics."""
    in_class, distance = [], []
    for i in torch.randperm(TEACHERS, generator=Rng(1).generator("choose"))[:PER_VISIT].tolist():
        teacher = zoo.teacher(zoo.ids[i])
        (shown,) = recovery.recover(state, [Visit(teacher, LABELS)], rng=Rng(1), learn=False)
        with torch.no_grad():
            seen = teacher.forward(shown.images, statistics=True)
        in_class.append(float((seen.logits.argmax(-1) == LABELS).float().mean()))
        distance.append(float(batchnorm_norms(seen.statistics)))
    return {"in_class": 100 * sum(in_class) / PER_VISIT, "statistics_distance": sum(distance) / PER_VISIT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cells", nargs="*", help="names; default all that results.jsonl does not have")
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, val = Zoo.open(args.zoo), load_data(args.data).val
    path = HERE / "results.jsonl"
    done = {}
    if path.exists():
        done = {r["cell"]: r for r in map(json.loads, path.read_text().splitlines())}
    first = {n: r for n, r in done.items() if n in CELLS}
    extra = winner_steps(max(first, key=lambda n: first[n]["val_1shot"])) if len(first) == len(CELLS) else {}
    for name, options in (CELLS | extra).items():
        if (args.cells is not None and name not in args.cells) or (args.cells is None and name in done):
            continue
        recovery = MetaGenerator(adversarial_weight=0.0, **options)
        state = recovery.init(zoo.canvas, Rng(0))
        bank, visits, seconds = recover_for(args.seconds, recovery, zoo, state=state)
        row = {"visits": visits, "images": visits * len(LABELS), "seconds": round(seconds, 1)}
        row |= image_quality(zoo, recovery, state)
        for shot, score in judge(distil(zoo, bank), val).items():
            row |= {f"val_{shot}shot": round(score.mean, 2), f"ci95_{shot}shot": round(score.ci95, 2)}
        row = {"cell": name, "options": options, "student_steps": STUDENT_STEPS, "zoo": zoo.hash} | row
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        done[name] = row
    plot(list(done.values()))


def plot(rows: list[dict]) -> None:
    """Student accuracy against images recovered in the minute, a point per cell."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for row in rows:
        colour = "tab:blue" if row["options"]["generator"] == "pixelshuffle" else "tab:orange"
        seconds = 1000 * row["seconds"] / row["images"]
        axes.errorbar(seconds, row["val_1shot"], yerr=row["ci95_1shot"], fmt="o", color=colour)
        axes.annotate(row["cell"], (seconds, row["val_1shot"]), fontsize=8, xytext=(5, 4), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="milliseconds per recovered image", ylabel="student, 5-way 1-shot on val classes (%)")
    axes.set_title(f"Recovery for {rows[0]['seconds']:.0f} s, then the same student for {STUDENT_STEPS} steps")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(HERE / "frontier.png", dpi=120)


if __name__ == "__main__":
    main()
