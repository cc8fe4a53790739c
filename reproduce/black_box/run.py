"""Accuracy over questions a model, for consolidation of black boxes.

    python reproduce/black_box/run.py --zoo ZOO --data DATA --out RUNS [--rows white labels-10000 ...] [--split test]

A row is one run by the recipe `black_box` with so many questions a model, of models that tell so much; ``white`` is
consolidation of the same models with all that they are, the same student and as many updates. A row is trained once (a
stopped run goes on) and judged on *validation* classes, or with ``--split test`` on test classes: for final rows alone.
A line per (row, shot, split) goes to ``results.jsonl``; lines that it has are left alone. At the end the table is
printed and ``curve.png`` drawn. Lines of another method with a ``budget`` of questions a model are drawn, too.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import torch

from dfml.data import DataSplits, load_data
from dfml.runs.results import evaluate_run
from dfml.runs.train import train
from dfml.zoo import Zoo

HERE = Path(__file__).parent
QUESTIONS, SHOTS = (100, 300, 1000, 3000, 10_000, 30_000), (1, 5)
ANSWERS = ("rounded", "top3", "labels")
ASKING_STEPS = 20  # of the recipe's 24
WHITE = {"questions": None, "drawn": 0}
ROWS = {"white": WHITE} | {
    f"{told}-{n}": {"answers": told, "questions": n, "drawn": -(-n // ASKING_STEPS)}
    for told in ANSWERS
    for n in QUESTIONS
}


def line_of(name: str, zoo: Zoo, data: DataSplits, out: Path, split: Any) -> list[dict[str, Any]]:
    """Train, or take the kept run; its reading, by shot."""
    folder, overrides = out / name, {"run.threads": 1} | ROWS[name]
    run = train(zoo, out=folder, recipe="black_box", overrides=overrides, resume=(folder / "config.json").exists())
    results = evaluate_run(run, data, split=split, shots=SHOTS, transductive=False).results
    kept = ("method", "recipe_hash", "shot", "split", "episodes", "answers", "questions", "steps", "teacher_queries")
    kept += ("images_recovered", "cpu_seconds", "seconds", "load", "device", "torch", "commit")
    about = {"schema": 1, "name": name, "zoo": zoo.hash, "budget": ROWS[name]["questions"]}
    return [about | {k: r[k] for k in kept} | {"accuracy": r["accuracy"]["inductive"]} for r in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder of run folders; not in the repository")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--split", default="val", choices=["val", "test"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, data, path = Zoo.open(args.zoo), load_data(args.data), HERE / "results.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    for name in args.rows:
        if any(line["name"] == name and line["split"] == args.split for line in lines):
            continue
        lines += (new := line_of(name, zoo, data, args.out, args.split))
        with path.open("a") as file:  # others may write there, too
            file.writelines(json.dumps(line) + "\n" for line in new)
    print_table(lines)
    plot(lines)


def print_table(lines: list[dict[str, Any]]) -> None:
    """Markdown: a line a row."""
    print("| row | split | questions a model | 1-shot | 5-shot | CPU seconds |\n|---|---|---|---|---|---|")
    for line in lines:
        if line["shot"] == SHOTS[0]:
            both = [o for o in lines if (o["name"], o["split"]) == (line["name"], line["split"])]
            scores = (f"{o['accuracy']['mean']:.1f} ± {o['accuracy']['ci95']:.1f}" for o in both)
            asked = (line["questions"] or {}).get("of_one_model", "-")
            cells = [line["name"], line["split"], str(asked), *scores, f"{line['cpu_seconds']:.0f}"]
            print("|", " | ".join(cells), "|")


def plot(lines: list[dict[str, Any]]) -> None:
    """A panel per shot, a curve for each way of answering and each other method; validation classes."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(SHOTS), figsize=(9, 3.8))
    colours = dict(zip((*ANSWERS, "bidf_mkd"), ("tab:blue", "tab:green", "tab:orange", "tab:red"), strict=True))
    for axes, shot in zip(panels, SHOTS, strict=True):
        mine = [line for line in lines if line["shot"] == shot and line["split"] == "val"]
        for curve, colour in colours.items():
            points = sorted(
                (line["budget"], line["accuracy"]["mean"])
                for line in mine
                if line["budget"] and curve == (line["answers"] if line["method"] == "consolidate" else line["method"])
            )
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colour, label=curve)
        for line in mine:
            if line["name"] == "white":
                axes.axhline(line["accuracy"]["mean"], color="black", ls="--", label="white boxes")
        axes.set_xscale("log")
        axes.set(xlabel="questions a model", ylabel="accuracy (%)", title=f"5-way {shot}-shot, validation classes")
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "curve.png", dpi=120)


if __name__ == "__main__":
    main()
