"""Is a run what it says, and does it come out the same again?"""

import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from dfml.data import load_split
from dfml.errors import InputError
from dfml.evaluation.evaluate import evaluate_shots
from dfml.files import read_json
from dfml.learners.learner_file import has_learner, load_learner
from dfml.runs.budget import OnProgress, Update
from dfml.runs.checkpoint import CorruptCheckpoint, load_tree
from dfml.runs.loop import Loop, Stopped
from dfml.runs.provenance import versions
from dfml.runs.run import Run
from dfml.runs.run_folder import BUDGETS, RunFolder

Outcome = Literal["same", "differs", "not checked"]
CLOCKS = ("seconds", "recover_seconds")  # of a line of metrics: never the same twice
MACHINE = ("dfml", "commit", "torch", "python", "platform", "cpus")  # what other bits may come from


@dataclass(frozen=True)
class Finding:
    """What was looked at, what came out, and in how far."""

    what: str
    outcome: Outcome
    detail: str


def verify(run: Run, data: str | Path | None = None, *, steps: int = 1) -> Iterator[Finding]:
    """Recompute what a run's results depend on, and do a part of it again; the run's folder is only read.

    Args:
        run: a run with a checkpoint.
        data: the images that it was judged on; None leaves the evaluation out.
        steps: so many steps are taken again, from the beginning and from the oldest checkpoint that is kept.

    Raises:
        InputError: the zoo or the data cannot be read; no step is to be taken.
    """
    if steps < 1:
        raise InputError(f"steps {steps}", "1 or more", "give at least one step to take again")
    yield _configuration(run.folder)
    yield from _models(run)
    yield from _checkpoints(run)
    yield from _evaluation(run, data)
    yield from _training(run, steps)


def _configuration(folder: RunFolder) -> Finding:
    """Its seal was checked when it was opened."""
    said, found = folder.about["recipe_hash"], folder.config.hash
    return Finding("configuration", _outcome(said == found), f"{folder.config.recipe}, {found[:19]}")


def _models(run: Run) -> Iterator[Finding]:
    """Every weight file against its checksum, all of them and their classes against the run's."""
    zoo, broken = run.zoo, list[str]()
    for name in zoo.ids:
        try:
            zoo.network(name)
        except InputError as error:
            broken.append(f"{name}: {error.given}")
    yield Finding("models", _outcome(not broken), "; ".join(broken) or f"{len(zoo)} of {zoo.name}, {zoo.hash[:19]}")


def _checkpoints(run: Run) -> Iterator[Finding]:
    for path in reversed(run.folder.checkpoints.paths()):
        try:
            load_tree(path)
        except CorruptCheckpoint as error:
            yield Finding(f"checkpoint {path.name}", "differs", str(error))
        else:
            yield Finding(f"checkpoint {path.name}", "same", "as it was written")
    if has_learner(run.path):
        kept, made = (learner.state_dict() for learner in (load_learner(run.path), run.method.learner(run.state)))
        yield Finding("learner", _outcome(equal(kept, made)), "the file, against the newest checkpoint")


def _training(run: Run, steps: int) -> Iterator[Finding]:
    """Steps from the beginning, and from the oldest checkpoint that is kept."""
    if not run.method.trains:
        yield Finding("training", "not checked", "this method has none")
        return
    changed = {change["key"] for change in run.folder.about.get("changes", [])}
    if changed - {f"run.{budget}" for budget in BUDGETS}:
        yield Finding("training, first steps", "not checked", f"changed on the way: {', '.join(sorted(changed))}")
    else:  # only before the first step no part of a budget is used, however long it was then
        yield _again(run, None, 1 if changed else steps)
    oldest, *later = reversed(run.folder.checkpoints.paths())
    if run.folder.config.run.steps is None:
        yield Finding(
            "training, last steps", "not checked", "its budget is time: what a step does depends on the clock"
        )
    elif later:
        yield _again(run, oldest, steps)


def _again(run: Run, start: Path | None, steps: int) -> Finding:
    """Take steps in a folder of its own; what they say and, where one was kept, what they leave, must be the same."""
    first = int(start.name.removeprefix("step-")) if start else 0
    told = {line["step"]: line for line in run.folder.metrics()}
    last = max((step for step in told if step <= first + steps), default=first)
    what = f"training, steps {first + 1} to {last}"
    with tempfile.TemporaryDirectory() as place:
        folder = _copy(run.folder, Path(place) / "run", start)
        loop = Loop(run.folder.config.build(), run.zoo, folder, folder.config.run)
        loop.on_progress = _stopping(loop, last)
        with suppress(Stopped):
            loop.run()
        now = {line["step"]: line for line in folder.metrics()}
        differ = [step for step in range(first + 1, last + 1) if not _alike(told.get(step), now.get(step))]
        kept = run.folder.checkpoints.path(last)
        made = folder.checkpoints.path(last)
        if not differ and kept.is_dir() and not equal(load_tree(kept)["state"], load_tree(made)["state"]):
            return Finding(what, "differs", f"the state after step {last}; {_elsewhere(run.folder)}")
    if differ:
        return Finding(what, "differs", f"from step {differ[0]} on; {_elsewhere(run.folder)}")
    return Finding(what, "same", "every metric" + (", and the state at the end" if kept.is_dir() else ""))


def _copy(folder: RunFolder, to: Path, start: Path | None) -> RunFolder:
    to.mkdir()
    (to / "checkpoints").mkdir()
    for name in ("config.json", "versions.json"):
        shutil.copy(folder.path / name, to / name)
    if start:
        shutil.copytree(start, to / "checkpoints" / start.name)
    return RunFolder(to)


def _stopping(loop: Loop, last: int) -> OnProgress:
    """Ends a run as a signal does."""

    def show(update: Update) -> None:
        if update.metrics and update.step >= last:
            loop.stop_signal = signal.SIGTERM

    return show


def _alike(told: dict[str, Any] | None, now: dict[str, Any] | None) -> bool:
    """Whether two lines of metrics say the same of all that both speak of: an older dfml may not have told as much."""
    if told is None or now is None:
        return False
    return all(told[key] == now[key] for key in (told.keys() & now.keys()) - set(CLOCKS))


def _elsewhere(folder: RunFolder) -> str:
    """In what this machine and program are others than those of the run."""
    made, here = read_json(folder.path / "versions.json"), versions(folder.threads)
    others = [f"{key} {made.get(key)} there, {here[key]} here" for key in MACHINE if made.get(key) != here[key]]
    return "; ".join(others) or "on the same machine, by the same dfml"


def _evaluation(run: Run, data: str | Path | None) -> Iterator[Finding]:
    """Every row of the result, on the same episodes."""
    path = run.path / "result.json"
    if data is None or not path.is_file():
        yield Finding("evaluation", "not checked", "no --data" if path.is_file() else "no result.json")
        return
    learner, known = run.learner, set(run.zoo.class_names.values())
    images_of = cache(lambda split: load_split(data, split, known=known, size=learner.networks[0].spec.size))
    for row in read_json(path)["results"]:
        what = f"evaluation, {row['shot']}-shot"
        task = {key: row[key] for key in ("split", "way", "queries", "episodes")}
        score = evaluate_shots(learner, images_of(row["split"]), shots=(row["shot"],), transductive_episodes=0, **task)
        now, told = score[row["shot"]]["inductive"].to_dict(), row["accuracy"]["inductive"]
        if now["manifest"] != told["manifest"]:
            yield Finding(what, "not checked", f"{data} makes other episodes than those that the run was judged on")
        else:
            same = (now["mean"], now["ci95"]) == (told["mean"], told["ci95"])
            yield Finding(what, _outcome(same), f"{now['mean']:.3f} % here, {told['mean']:.3f} % in result.json")


def equal(one: Any, other: Any) -> bool:
    """Whether two nested structures hold the same values, tensors by their bits."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def _outcome(same: bool) -> Outcome:
    return "same" if same else "differs"
