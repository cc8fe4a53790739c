"""Small runs of the commands that write, how each goes on after a fault, and what must come out of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from damage import plain
from small import CONSOLIDATE, FREE

from dfml.learners.learner_file import load_learner
from dfml.learners.predictor_file import load_predictor
from dfml.runs.judged import read_judged
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo

Words = list[object]
SAVED_EACH_STEP = ("--threads", 1, "--checkpoint-minutes", 0)


@dataclass(frozen=True)
class Command:
    """A command, as words, given the folder that it writes to.

    Args:
        name: of it.
        words: of it.
        again: words that go on after a fault.
        outcome: what must be the same bits with and without a fault.
        before: makes the folder what the command needs.
    """

    name: str
    words: Callable[[Path], Words]
    again: Callable[[Path], Words]
    outcome: Callable[[Path], Any]
    before: Callable[[Path], object] = Path.mkdir


def options(values: dict[str, object]) -> Words:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]


def train(name: str, zoo: object, settings: Words, steps: int) -> Command:
    def words(out: Path) -> Words:
        return ["train", "--zoo", zoo, "--out", out / "run", "--steps", steps, *SAVED_EACH_STEP, *settings]

    def again(out: Path) -> Words:
        begun = (out / "run" / "config.json").exists()
        return ["train", "--out", out / "run", "--resume", "--steps", steps] if begun else words(out)

    def outcome(out: Path) -> Any:
        folder = RunFolder(out / "run")
        saved = folder.checkpoints.latest()
        timed = ("seconds", "recover_seconds")
        lines = [{k: v for k, v in line.items() if not k.endswith(timed)} for line in folder.metrics()]
        pictures = sorted(path.name for path in folder.plots.iterdir())
        return plain([saved["state"], saved["step"], saved["validation"], lines, load_learner(folder.path), pictures])

    return Command(name, words, again, outcome)


def free(name: str, zoo: Path, steps: int) -> Command:
    return train(name, zoo, ["--recipe", "free", *options(FREE), "--method.flip", "true"], steps)


def consolidation(zoo: Path) -> Command:
    settings = ["--recipe", "fast", *options(CONSOLIDATE), "--method.flip", "true"]
    return train("train (consolidation)", zoo, settings, steps=3)


def zoo_build(data: Path) -> Command:
    def words(out: Path) -> Words:
        small = ["--models", 2, "--way", 3, "--width", 4, "--epochs", 1, "--jobs", 1]
        return ["zoo", "build", "--data", data, "--out", out / "zoo", *small]

    def outcome(out: Path) -> Any:
        zoo = Zoo.open(out / "zoo")
        return zoo.hash, zoo.cards_hash, [plain(zoo.network(model)) for model in zoo.ids]

    return Command("zoo build", words, words, outcome)


def zoo_add(zoo: Path) -> Command:
    cards = sorted(Zoo.open(zoo).path.glob("toy-[01].json"))

    def words(out: Path) -> Words:
        return ["zoo", "add", out / "zoo", *cards, "--shared-classes"]

    def again(out: Path) -> Words:
        known = Zoo.open(out / "zoo").ids if (out / "zoo" / "zoo.json").exists() else []
        missing = [card for card in cards if card.stem not in known]
        return ["zoo", "add", out / "zoo", *missing, "--shared-classes"] if missing else ["zoo", "list", out / "zoo"]

    def outcome(out: Path) -> Any:
        made = Zoo.open(out / "zoo")
        files = sorted(path.name for path in made.path.glob("[!.]*"))
        return files, made.hash, made.cards_hash, [plain(made.network(model)) for model in made.ids]

    return Command("zoo add", words, again, outcome)


def sweep(zoo: Path, data: Path) -> Command:
    (recipe := zoo.parent / "small.toml").write_text(small_recipe())

    def words(out: Path) -> Words:
        judged = ["--data", data, "--shots", 1, "--way", 3, "--queries", 3, "--episodes", 10]
        several = ["--grid", "method.updates=1,2", "--steps", 2, "--jobs", 1]
        return ["sweep", "--zoo", zoo, "--recipe", recipe, "--out", out / "sweep", *several, *judged]

    def outcome(out: Path) -> Any:
        lines = [json.loads(line) for line in (out / "sweep" / "sweep.jsonl").read_text().splitlines()]
        told = sorted((line["name"], line["steps"], line["accuracy"]["1"]["mean"]) for line in lines)
        return told, [plain(load_learner(out / "sweep" / name)) for name, *_ in told]

    return Command("sweep", words, words, outcome)


def small_recipe() -> str:
    """Consolidation as `CONSOLIDATE` has it, as a file."""
    sections: dict[str, list[str]] = {"method": ['name = "consolidate"'], "recovery": ['name = "by_teacher"']}
    for name, value in CONSOLIDATE.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {value}")
    sections["network"].append('name = "conv4"')
    sections["run"] = ["threads = 1", "checkpoint_minutes = 0"]
    return "".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())


def black_box(zoo: Path) -> Command:
    settings = ["--recipe", "black_box", *options(CONSOLIDATE), "--questions", 60, "--drawn", 20, "--answers", "labels"]
    return train("train (black boxes)", zoo, [*settings, "--method.flip", "true"], steps=4)


def evaluate(run: Path, data: Path) -> Command:
    def words(out: Path) -> Words:
        few = ["--episodes", 20, "--way", 3, "--queries", 3, "--shots", 1]
        return ["evaluate", out / "run", "--data", data, *few]

    def outcome(out: Path) -> Any:
        (judged,) = read_judged([out / "run"])
        means = [(kind, said["mean"], said["manifest"]) for kind, said in judged.about["accuracy"].items()]
        return means, [plain([key, each.keys, each.accuracies]) for key, each in judged.per_episode.items()]

    return Command("evaluate", words, words, outcome, lambda out: shutil.copytree(run, out / "run"))


def adapt(run: Path, data: Path) -> Command:
    def words(out: Path) -> Words:
        return ["adapt", run, "--support", data / "val", "--out", out / "predictor"]

    def outcome(out: Path) -> Any:
        classifier = load_predictor(out / "predictor")
        return classifier.class_names, classifier.about, plain(classifier.predictor), plain(classifier.predictor.weight)

    return Command("adapt", words, words, outcome)


def export(predictor: Path) -> Command:
    def words(out: Path) -> Words:
        return ["export", predictor, out / "made.pt2"]

    def outcome(out: Path) -> Any:
        return {path.name: path.read_bytes() for path in out.glob("[!.]*")}  # a kill may leave an unfinished .*.tmp

    return Command("export", words, words, outcome)


def told(out: Path) -> str:
    """What is in a folder, for messages."""
    return json.dumps(sorted(str(path.relative_to(out)) for path in out.rglob("*")))
