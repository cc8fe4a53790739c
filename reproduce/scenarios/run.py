"""Zoos as they come: with bad models among them, of untrained ones, of another domain, and one that grows.

    python reproduce/scenarios/run.py SCENARIO... --zoo ZOO --data DATA --out RUNS

`sound` is the zoo as it is. `corrupted-40` has 40 % of bad models (`../corrupted/build.py`), and nobody is told;
`corrupted-40-audited` is the same after `dfml zoo audit --set-aside`. `untrained` are networks that have learned
nothing. `irrelevant` is the embedded zoo of characters, for photographs. `grown` is half of the zoo, and then the other
half joins the run. Each is learned from by consolidation (recipe `fast`) and, with --also, by other recipes; beside
them the joined features of all models, nearest centroids. One line per (scenario, row, shot) goes to ``results.jsonl``;
lines that are there are left alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfml.data import DataSplits, load_data
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.manifest import make_manifest
from dfml.methods import METHODS
from dfml.nn import Classifier, build_backbone
from dfml.randomness import Rng
from dfml.runs.results import evaluate_run
from dfml.runs.run import Run
from dfml.runs.train import train
from dfml.zoo import Zoo, write_index
from dfml.zoo.edit import set_aside
from dfml.zoo_building.audit import audit

sys.path.insert(0, str(Path(__file__).parents[1] / "corrupted"))

from build import corrupt

HERE, SHOTS, EPISODES = Path(__file__).parent, (1, 5), 2000
MORE_STEPS = 5  # of a grown run, in which the models that joined are asked about the images of before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="+")
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path, help="folder of zoos and runs; not in the repository")
    parser.add_argument("--also", nargs="*", default=[], help="recipes beside `fast`, for --minutes each")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load_data(args.data)
    for scenario in args.scenarios:
        start = time.process_time()
        zoo = zoo_of(scenario, Zoo.open(args.zoo), args.out, args.seed)
        about = {"scenario": scenario, "zoo": zoo.hash, "models": len(zoo), "seed": args.seed}
        about["zoo_cpu_seconds"] = round(time.process_time() - start)  # building and auditing
        if not known(scenario, "zoo ensemble", args.seed):
            ensemble = METHODS["zoo_ensemble"]().init(zoo, Rng(0)).learner
            for shot in SHOTS:
                manifest = make_manifest(data.test, shot=shot, episodes=EPISODES, split="test")
                score = evaluate(ensemble, data.test, manifest)
                write(about | {"row": "zoo ensemble", "shot": shot, "accuracy": score.to_dict()})
        for recipe in ("fast", *args.also):
            if not known(scenario, recipe, args.seed):
                limits: dict[str, Any] = {} if recipe == "fast" else {"minutes": args.minutes}
                folder = args.out / f"{scenario}-{recipe}-seed{args.seed}"
                judge(about | {"row": recipe}, learned(scenario, zoo, folder, recipe, limits, args.seed), data)


def zoo_of(scenario: str, sound: Zoo, out: Path, seed: int) -> Zoo:
    """The zoo of a scenario, made where it is not there yet."""
    if scenario in ("sound", "grown"):
        return sound
    if scenario == "irrelevant":
        return Zoo.open("glyphs")
    kind, *rest = scenario.split("-")
    folder = out / f"{scenario}-zoo-seed{seed}"
    if not (folder / "zoo.json").exists():
        if kind == "untrained":
            forget(sound, folder, Rng(seed))
        else:
            bad = corrupt(sound, folder, share=int(rest[0]) / 100, seed=seed)
            (out / f"{scenario}-bad-seed{seed}.json").write_text(json.dumps(bad))
        if "audited" in rest:
            verdicts = audit(Zoo.open(folder), rng=Rng(seed).at("audit"))
            set_aside(folder, {verdict.id: f"{verdict.kind}: {verdict.evidence}" for verdict in verdicts})
    return Zoo.open(folder)


def forget(zoo: Zoo, folder: Path, rng: Rng) -> None:
    """Networks as those of a zoo, with fresh weights."""
    folder.mkdir(parents=True)
    for model, card in zoo.cards.items():
        with rng.at(model).seeded("weights"):
            size, channels = card.input_spec.size, card.input_spec.channels
            width = card.options["width"]
            backbone = build_backbone(card.architecture, image_size=size, width=width, channels=channels)
            Zoo.write_model(folder, replace(card), Classifier(backbone, len(card.class_ids)).eval())
    write_index(folder, name=f"{zoo.name}-untrained", shared_classes=True)


def learned(scenario: str, zoo: Zoo, folder: Path, recipe: str, limits: dict[str, Any], seed: int) -> Run:
    """Train, or take the kept run."""
    begun = (folder / "config.json").exists()
    options = {"run.seed": seed, "run.threads": 1}
    go: Callable[..., Run] = train
    if scenario == "grown":
        if not begun:
            run = go(zoo.subset(zoo.ids[: len(zoo) // 2]), out=folder, recipe=recipe, overrides=options)
            (folder.parent / f"{folder.name}-first.json").write_text(json.dumps(run.folder.about["zoo"]))
        steps = 24 + MORE_STEPS
        return go(zoo, out=folder, steps=steps, resume=True, overrides={"method.updates": 32}, override=True)
    return go(zoo, out=folder, recipe=recipe, resume=begun, overrides=options, **limits)


def judge(about: dict[str, Any], run: Run, data: DataSplits) -> None:
    """Read the test classes once."""
    for row in evaluate_run(run, data, shots=SHOTS, episodes=EPISODES, transductive=False).results:
        kept = {key: row[key] for key in ("shot", "steps", "cpu_seconds", "seconds", "commit")}
        write(about | kept | {"accuracy": row["accuracy"]["inductive"]})


def known(scenario: str, row: str, seed: int) -> bool:
    """Whether it was measured before."""
    lines = [json.loads(text) for text in (HERE / "results.jsonl").read_text().splitlines()]
    return any((each["scenario"], each["row"], each["seed"]) == (scenario, row, seed) for each in lines)


def write(line: dict[str, Any]) -> None:
    """At the end of the results."""
    print(json.dumps(line), flush=True)
    with (HERE / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
