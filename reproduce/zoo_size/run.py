"""What each more teacher is worth: accuracy on test classes over zoos of 5 to 100 models.

    python reproduce/zoo_size/run.py --zoo ZOO --data DATA --out RUNS [--sizes 5 10 ...]

A smaller zoo is the first models of the kept one. Each is judged by its mean single teacher and by its ensemble (joined
features, nearest centroids), then consolidated by the recipe `fast` and given to FREE for 75 steps; neither holds a
teacher out for its progress display. One line per (size, shot) goes to ``results.jsonl``; sizes that it has are left
alone; a stopped run goes on. At the end the table is printed and ``curve.png`` drawn.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import torch

from dfml.data import DataSplits, load_data
from dfml.evaluation.baselines import baseline_scores
from dfml.evaluation.evaluate import FROZEN_EPISODES, check_disjoint
from dfml.evaluation.manifest import make_manifest
from dfml.randomness import Rng
from dfml.runs.results import evaluate_run
from dfml.runs.train import train
from dfml.zoo import Zoo

HERE = Path(__file__).parent
SIZES, SHOTS = (5, 10, 20, 50, 100), (1, 5)
TRAINED: dict[str, dict[str, Any]] = {"consolidation": {"recipe": "fast"}, "free": {"recipe": "free", "steps": 75}}
ROWS = ("single_teacher_mean", "free", "zoo_ensemble", "consolidation")


def measure(zoo: Zoo, data: DataSplits, out: Path) -> list[dict[str, Any]]:
    """Lines for one zoo, by shot."""
    manifests = [make_manifest(data.test, way=5, shot=k, episodes=FROZEN_EPISODES, split="test") for k in SHOTS]
    baselines = baseline_scores(zoo, data.test, manifests, rng=Rng(0).at("baselines"))
    about = {"schema": 1, "models": len(zoo), "zoo": zoo.hash, "classes": len(zoo.class_ids)}
    lines = []
    for shot, scores in zip(SHOTS, baselines, strict=True):
        named = {"single_teacher_mean": scores.single_teacher_mean, "zoo_ensemble": scores.zoo_ensemble}
        accuracy = {name: score.to_dict() for name, score in named.items()}
        lines.append(about | {"shot": shot, "accuracy": accuracy, "steps": {}, "minutes": {}})
    for name in TRAINED:
        judge(name, zoo, data, out, lines)
    return lines


def judge(name: str, zoo: Zoo, data: DataSplits, out: Path, lines: list[dict[str, Any]]) -> None:
    """Train, or take the kept run, and put its reading of the test classes into the lines of its zoo."""
    folder = out / f"{name}-{len(zoo)}"
    overrides = {"validation_teachers": 0, "run.threads": 1}
    run = train(zoo, out=folder, resume=(folder / "config.json").exists(), overrides=overrides, **TRAINED[name])
    for line, result in zip(lines, evaluate_run(run, data, shots=SHOTS, transductive=False).results, strict=True):
        line["accuracy"][name] = result["accuracy"]["inductive"]
        line["steps"][name] = result["steps"]
        line["minutes"][name] = round(result["seconds"]["total"] / 60, 1)
        line["commit"] = result["commit"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder of run folders; not in the repository")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--reread", choices=list(TRAINED), help="judge these kept runs anew, where adaptation changed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, data, path = Zoo.open(args.zoo), load_data(args.data), HERE / "results.jsonl"
    check_disjoint(zoo, data.test)
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    done = {line["models"] for line in lines}
    for size in sorted(set(args.sizes) & done if args.reread else set(args.sizes) - done):
        smaller, mine = zoo.subset(zoo.ids[:size]), [line for line in lines if line["models"] == size]
        if args.reread:
            judge(args.reread, smaller, data, args.out, mine)
        else:
            lines += measure(smaller, data, args.out)
        lines.sort(key=lambda line: (line["shot"], line["models"]))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print("| shots | models | " + " | ".join(ROWS) + " |\n" + "|---" * (len(ROWS) + 2) + "|")
    for line in lines:
        scores = (f"{line['accuracy'][r]['mean']:.1f} ± {line['accuracy'][r]['ci95']:.1f}" for r in ROWS)
        print("|", " | ".join([str(line["shot"]), str(line["models"]), *scores]), "|")
    plot(lines)


def plot(lines: list[dict[str, Any]]) -> None:
    """A panel per shot, a line per row."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(SHOTS), figsize=(9, 3.8))
    for axes, shot in zip(panels, SHOTS, strict=True):
        mine = [line for line in lines if line["shot"] == shot]
        for row, colour in zip(ROWS, ("tab:gray", "tab:orange", "black", "tab:blue"), strict=True):
            means = [line["accuracy"][row]["mean"] for line in mine]
            axes.plot([line["models"] for line in mine], means, "o-", color=colour, label=row.replace("_", " "))
        axes.set_xscale("log")
        axes.set_xticks(SIZES, [str(s) for s in SIZES])
        axes.minorticks_off()
        axes.set(xlabel="models in the zoo", ylabel="accuracy (%)", title=f"5-way {shot}-shot, test classes")
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "curve.png", dpi=120)


if __name__ == "__main__":
    main()
