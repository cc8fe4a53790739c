"""A picture of accuracy against cost: every method a point.

    python reproduce/systems/cost.py

Reads the results of `plain` and, of the same zoo, of `../cifar_fs`; draws ``cost.png``: 5-way accuracy on test classes
of CIFAR-FS over the CPU time of learning, and over the images that teachers answered on. Lines are what needs all
hundred teachers at every answer.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
OURS = {"consolidate", "fast", "best"}
BESIDE = {"fast", "best", "published"}  # rows of ../cifar_fs that took another time than ten minutes
ENSEMBLES = {
    "zoo-ensemble": "all 100 teachers, features",
    "zoo-ensemble-posterior-ridge": "all 100, answers and posterior",
}
COSTS = {  # key and scale
    "CPU minutes of learning": ("cpu_seconds", 1 / 60),
    "million images that teachers answered on": ("teacher_queries", 1e-6),
}


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def main() -> None:
    plain, beside = rows(HERE / "plain" / "results.jsonl"), rows(HERE.parent / "cifar_fs" / "results.jsonl")
    points = plain + [row for row in beside if row["name"] in BESIDE]
    figure, panels = plt.subplots(2, 2, figsize=(11, 8.5), sharey="row")
    for line, shot in zip(panels, (1, 5), strict=True):
        for axes, (label, (key, scale)) in zip(line, COSTS.items(), strict=True):
            drawn = sorted(
                (row["accuracy"]["inductive"]["mean"], row[key] * scale, row["name"])
                for row in points
                if row["shot"] == shot and row.get(key)
            )
            for (accuracy, cost, name), height in zip(drawn, apart([a for a, *_ in drawn]), strict=True):
                colour = "tab:red" if name in OURS else "tab:blue"
                axes.plot(cost, accuracy, "o", color=colour)
                axes.annotate(
                    name,
                    (cost, accuracy),
                    (1.03, height),
                    textcoords=("axes fraction", "data"),
                    fontsize=8,
                    va="center",
                    color=colour,
                    arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.25},
                )
            for row in beside:
                if row["shot"] == shot and row["name"] in ENSEMBLES:
                    mean = row["accuracy"]["inductive"]["mean"]
                    axes.axhline(mean, color="grey", ls="--", lw=1)
                    axes.annotate(
                        ENSEMBLES[row["name"]],
                        (0.99, mean),
                        xycoords=("axes fraction", "data"),
                        fontsize=7,
                        ha="right",
                        va="bottom",
                        color="grey",
                    )
            axes.set(xlim=(0, None), xlabel=label, ylabel=f"{shot}-shot accuracy (%)")
            axes.grid(alpha=0.3)
    figure.tight_layout(w_pad=6)
    figure.savefig(HERE / "cost.png", dpi=110)


def apart(heights: list[float], least: float = 1.15) -> list[float]:
    """Heights in rising order, moved up until names do not overlap."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    return moved


if __name__ == "__main__":
    main()
