"""Train, judge and record rows of a results table.

    python reproduce/run_rows.py reproduce/cifar_fs/free-bn.toml ... --zoo ZOO --data DATA --out RUNS [--seeds 0 1]

Each row is one TOML recipe. For every seed it is trained (resumed if it was stopped), judged once on the test classes,
and one line per (row, shot) goes to ``results.jsonl`` beside the recipe; the line of the same row is replaced. A line
with ``[table] checkpoint = "best-test"`` reads the test classes at every kept checkpoint and reports the best, as the
published code does; its line says so. Where ``--out`` holds ``zoo-ensemble-episodes.npz``, which `baselines.py --out`
writes, a line also has the paired difference to the zoo ensemble.
"""

import argparse
import json
import statistics
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfml.data import DataSplits, load_data
from dfml.evaluation.score import Score, paired_difference
from dfml.runs.results import evaluate_run
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.runs.train import train
from dfml.zoo import Zoo

SHOTS = (1, 5)
Results = dict[int, dict[str, Any]]  # by shot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder of run folders; not in the repository")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--reread", action="store_true", help="judge kept runs anew, after a change of what adapts")
    args = parser.parse_args()
    zoo, data = Zoo.open(args.zoo), load_data(args.data)
    for recipe in args.recipes:
        per_seed = [one_seed(recipe, seed, zoo, data, args) for seed in args.seeds]
        record(recipe, per_seed, paired_to_ensemble(args.out, recipe.stem, args.seeds))


def one_seed(recipe: Path, seed: int, zoo: Zoo, data: DataSplits, args: argparse.Namespace) -> Results:
    """Train and judge; results by shot. The test classes are read once: a finished reading stays in the run folder.

    Only where adaptation has changed since, by a choice on validation classes, ``--reread`` reads them again.
    """
    folder = args.out / f"{recipe.stem}-seed{seed}"
    kept = folder / "test_reading.json"
    if kept.exists() and not args.reread:
        return {row["shot"]: row for row in json.loads(kept.read_text())}
    table, sections = read(recipe)
    overrides = {f"{s}.{k}": v for s, values in sections.items() for k, v in values.items() if k != "name"}
    overrides = {k: str(args.data) if v == "DATA" else v for k, v in overrides.items()}  # of an oracle
    named = {s: values["name"] for s, values in sections.items() if "name" in values}
    overrides = named | overrides | {"run.seed": seed} | ({"run.threads": args.threads} if args.threads else {})
    exists = (folder / "config.json").exists()
    run = train(zoo, out=folder, recipe=table.get("base", "free"), overrides=overrides, resume=exists)
    best = table.get("checkpoint") == "best-test"
    if best:
        reading = best_on_test(run, data)
    else:
        evaluation = evaluate_run(run, data, shots=SHOTS)
        reading = {row["shot"]: row for row in evaluation.results}
        episodes = {f"{shot}": scores["inductive"].per_episode.numpy() for shot, scores in evaluation.scores.items()}
        np.savez(folder / "test_episodes.npz", **episodes)
    kept.write_text(json.dumps(list(reading.values())))
    return reading


def read(recipe: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The recipe's ``[table]`` and its other sections."""
    sections = tomllib.loads(recipe.read_text())
    return sections.pop("table", {}), sections


def best_on_test(run: Run, data: DataSplits) -> Results:
    """The best reading over all kept checkpoints, for each shot and BatchNorm setting, as published."""
    best: Results = {}
    saved = run.folder.checkpoints.paths()
    for path in saved:
        reading = Run(RunFolder(run.path), run.zoo, checkpoint=path)
        for row in evaluate_run(reading, data, shots=SHOTS).results:
            kept = best.setdefault(row["shot"], row)
            for kind, score in row["accuracy"].items():
                if score["mean"] > kept["accuracy"][kind]["mean"]:
                    kept["accuracy"][kind] = score
            kept["checkpoint"] = f"best of {len(saved)} readings of test"
    return best


def paired_to_ensemble(runs: Path, name: str, seeds: list[int]) -> dict[int, tuple[float, float]]:
    """Difference to the zoo ensemble episode by episode, mean over seeds, by shot; half of its 95 % interval."""
    files = [runs / "zoo-ensemble-episodes.npz", *(runs / f"{name}-seed{s}" / "test_episodes.npz" for s in seeds)]
    if not all(file.exists() for file in files):
        return {}
    differences = {}
    for shot in SHOTS:
        ensemble, *rows = (np.load(file)[f"{shot}"].astype(float) for file in files)
        if len(ensemble) == len(rows[0]):
            scores = (torch.from_numpy(values) for values in (np.mean(rows, 0), ensemble))
            named = (Score.of(values, seconds=0.0, norm="running", manifest=None) for values in scores)
            differences[shot] = paired_difference(*named)
    return differences


def record(recipe: Path, per_seed: list[Results], paired: dict[int, tuple[float, float]]) -> None:
    """Merge the seeds and write one line per shot to ``results.jsonl`` beside the recipe."""
    table, _ = read(recipe)
    lines = []
    for shot in SHOTS:
        rows = [r[shot] for r in per_seed]
        line = rows[0] | {"name": recipe.stem, "recipe": recipe.as_posix(), "headline": table.get("headline", False)}
        line["seeds"] = [s for r in rows for s in r["seeds"]]
        for kind in line["accuracy"]:
            means = [r["accuracy"][kind]["mean"] for r in rows]
            line["accuracy"][kind] = line["accuracy"][kind] | {"mean": statistics.fmean(means), "per_seed": means}
        if shot in paired:
            line["minus_zoo_ensemble"] = dict(zip(("mean", "ci95"), (round(v, 3) for v in paired[shot]), strict=True))
        line["per_seed"] = line["accuracy"]["inductive"]["per_seed"]
        lines.append(line)
    path = recipe.parent / "results.jsonl"
    old = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    old = [r for r in old if r["name"] != recipe.stem]
    path.write_text("".join(json.dumps(r) + "\n" for r in sorted(old + lines, key=lambda r: (r["name"], r["shot"]))))


if __name__ == "__main__":
    main()
