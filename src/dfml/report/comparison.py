"""Runs beside each other: a row a recipe, its seeds merged; runs that cannot stand in one table are refused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from dfml.functional.intervals import t_interval
from dfml.report.mixing import TASK, refuse_mixed, value_of
from dfml.runs.judged import JudgedRun, read_judged
from dfml.runs.per_episode import PerEpisode

KINDS = ("inductive", "transductive")
NAMED = 2  # hyper-parameters that tell the rows of one recipe apart, at most; else their folders do


@dataclass(frozen=True)
class Accuracy:
    """Of a row, at one shot, of one kind, in percent.

    Args:
        mean: over the seeds.
        ci95: half the width of the 95 % interval.
        over: what the interval is over: ``seeds`` by Student's t where there are several, else ``episodes``.
        per_seed: each one's mean.
        norm: how BatchNorm was set.
    """

    mean: float
    ci95: float
    over: Literal["seeds", "episodes"]
    per_seed: tuple[float, ...]
    norm: str


@dataclass(frozen=True)
class Row:
    """One recipe, in one zoo, asked one thing: the mean of its runs, which differ in their seeds alone.

    Args:
        recipe: its name, with what tells it apart from other rows of that name.
        runs: one a seed.
        accuracies: by shot and kind.
        minus_first: by shot the paired inductive difference to the first row that was given, and half of its 95 %
            interval over episodes.
    """

    recipe: str
    runs: tuple[JudgedRun, ...]
    accuracies: dict[tuple[int, str], Accuracy]
    minus_first: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        """What the first run's results say: ``method``, ``networks_at_inference``, ``uses_data``, ``split``, ..."""
        return self.runs[0].about

    @property
    def seeds(self) -> list[int]:
        """Of its runs."""
        return [run.seed for run in self.runs]

    @property
    def seconds(self) -> float:
        """Of training, mean over the runs."""
        return fmean(run.about["seconds"]["total"] for run in self.runs)

    @property
    def images(self) -> float:
        """Recovered, mean over the runs."""
        return fmean(run.about["images_recovered"] for run in self.runs)

    @property
    def questions(self) -> float:
        """Images that teachers were asked about, mean over the runs."""
        return fmean(run.about["teacher_queries"] for run in self.runs)

    @property
    def memory_mb(self) -> float:
        """The most of any run."""
        return max(float(run.about["peak_memory_mb"]) for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Args:
        rows: by inductive accuracy at the first shot, the weakest first.
        shots: of which there is an accuracy.
        first: the label of the row of the first run, to which differences are taken.
        varies: in what the rows differ that are mixed: some of ``zoo``, ``data``, ``split``, ``way``, ``queries``.
        notes: what a reader has to know, in plain sentences.
    """

    rows: list[Row]
    shots: list[int]
    first: str
    varies: list[str]
    notes: list[str]

    @property
    def kinds(self) -> list[tuple[int, str]]:
        """Shots and kinds of which there is an accuracy, in the order of columns."""
        held = {key for row in self.rows for key in row.accuracies}
        return [(shot, kind) for kind in KINDS for shot in self.shots if (shot, kind) in held]


def compare(runs: Sequence[str | Path], *, mix: bool = False) -> Comparison:
    """Put runs that were evaluated beside each other.

    Runs that differ in nothing but their seeds are one row, with Student's t interval over the seeds. Differences to
    the row of the first run are paired: the seeds' mean in an episode, minus that of the other row in the same one.

    Args:
        runs: run folders with a ``result.json``.
        mix: also of several zoos, splits and lists of episodes; such rows are told apart, and paired where their
            episodes are the same.

    Raises:
        InputError: a folder that is no run or was not evaluated; runs that differ in zoo, split, way, queries or
            episodes without ``mix``. Names each, and in what it differs.
    """
    judged = read_judged(runs)
    if not mix:
        refuse_mixed(judged)
    told_apart = ("zoo", "data", *TASK) if mix else ()
    groups, notes = _groups(judged, told_apart)
    shots = sorted({shot for run in judged for shot in run.results})
    labels = _labels(groups)
    first = next(i for i, group in enumerate(groups) if judged[0] in group)
    rows = [
        Row(label, tuple(group), _accuracies(group), _minus(group, groups[first], shots) if i != first else {})
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    varies = [name for name in told_apart if len({value_of(run, name) for run in judged}) > 1]
    rows.sort(key=lambda row: next(row.accuracies[s, "inductive"].mean for s in shots if s in row.runs[0].results))
    return Comparison(rows, shots, labels[first], varies, notes + _notes(judged, rows, labels[first], varies))


def _groups(runs: Sequence[JudgedRun], told_apart: Sequence[str]) -> tuple[list[list[JudgedRun]], list[str]]:
    """Runs that differ in their seeds alone; where a seed comes twice, each of its group stands for itself."""
    groups: dict[str, list[JudgedRun]] = {}
    for run in runs:
        asked = [str(value_of(run, name)) for name in told_apart]
        groups.setdefault(str([asked, sorted(run.settings.items())]), []).append(run)
    split, notes = [], []
    for group in groups.values():
        twice = [seed for seed, count in Counter(run.seed for run in group).items() if count > 1]
        if twice:
            named = ", ".join(str(run.path) for run in group)
            notes.append(f"Not merged, since seed {twice[0]} comes twice: {named}.")
        split += [[run] for run in group] if twice else [group]
    return split, notes


def _labels(groups: Sequence[Sequence[JudgedRun]]) -> list[str]:
    """The recipe's name; of several rows with one name also what differs, or the folder where that is much."""
    labels = []
    for group in groups:
        name = group[0].recipe
        alike = [other[0] for other in groups if other[0].recipe == name]
        keys = sorted(k for k in group[0].settings if len({str(other.settings.get(k)) for other in alike}) > 1)
        told = {run.path: tuple(f"{k.rpartition('.')[2]}={run.settings.get(k)}" for k in keys) for run in alike}
        if len(keys) > NAMED or len(set(told.values())) < len(alike):
            told = {run.path: (run.path.name,) for run in alike}
        labels.append(name if len(alike) == 1 else f"{name} ({', '.join(told[group[0].path])})")
    return labels


def _accuracies(group: Sequence[JudgedRun]) -> dict[tuple[int, str], Accuracy]:
    """Merged over the seeds."""
    scores: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for run in group:
        for shot, result in run.results.items():
            for kind, score in result["accuracy"].items():
                scores.setdefault((shot, kind), []).append(score)
    merged = {}
    for key, each in scores.items():
        means = tuple(score["mean"] for score in each)
        mean, ci95 = t_interval(means) if len(means) > 1 else (means[0], each[0]["ci95"])
        over: Literal["seeds", "episodes"] = "seeds" if len(means) > 1 else "episodes"
        merged[key] = Accuracy(mean, ci95, over, means, each[0]["norm"])
    return merged


def _minus(
    group: Sequence[JudgedRun], first: Sequence[JudgedRun], shots: Sequence[int]
) -> dict[int, tuple[float, float]]:
    differences = {}
    for shot in shots:
        ours, theirs = (
            PerEpisode.mean([r.per_episode[shot, "inductive"] for r in runs])
            if all((shot, "inductive") in r.per_episode for r in runs)
            else None
            for runs in (group, first)
        )
        if ours and theirs and (difference := ours.minus(theirs)):
            differences[shot] = difference
    return differences


def _notes(runs: Sequence[JudgedRun], rows: Sequence[Row], first: str, varies: Sequence[str]) -> list[str]:
    """What the numbers mean, and what is amiss with them."""
    about, notes = runs[0].about, []
    if not varies:
        where = f"{about['split']} classes of {about['data']}, zoo {runs[0].zoo} ({about['zoo']['hash'][:15]}...)"
        notes.append(f"{about['way']}-way, {about['queries']} queries a class, {where}; % correct.")
    several = "Student's t over the seeds where there are several, else over the episodes"
    notes.append(f"Behind ±: half of the 95 % interval, {several}.")
    if any(row.minus_first for row in rows):
        notes.append(
            f"Differences are to {first}, paired on the same episodes; their intervals are over episodes, so they tell "
            "these networks apart and say nothing of other seeds."
        )
    if len(rows) > 1 and (bare := [str(run.path) for run in runs if not run.per_episode]):
        notes.append(f"Not paired, since `dfml evaluate` did not keep accuracies by episode yet: {', '.join(bare)}.")
    if len(devices := sorted({run.about["device"] for run in runs})) > 1:
        notes.append(f"Seconds are of different devices: {', '.join(devices)}.")
    for run in runs:
        if (wanted := run.settings["run.steps"]) and run.about["steps"] < wanted and not run.settings["run.minutes"]:
            notes.append(f"{run.path} stopped at step {run.about['steps']} of {wanted}.")
        if run.results.keys() != {shot for r in runs for shot in r.results}:
            notes.append(f"{run.path} was judged at {', '.join(map(str, sorted(run.results)))} shots alone.")
    return notes
