"""A run that was evaluated, read back from its folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import read_json, unsealed
from dfml.runs.per_episode import PerEpisode, read_per_episode
from dfml.runs.results import RESULT_SCHEMA
from dfml.runs.run_folder import RunFolder

BUDGET = ("minutes", "steps", "accelerator", "compile")  # of [run]: what a run costs depends on them

KEYS = (
    "method", "data", "split", "way", "queries", "episodes", "manifest", "zoo", "networks_at_inference", "accuracy",
    "uses_data", "steps", "seconds", "images_recovered", "teacher_queries", "peak_memory_mb", "device",
)  # fmt: skip
"""Of a row of ``result.json``: what a table is made of."""


@dataclass(frozen=True)
class JudgedRun:
    """What a run folder says of a run and its evaluation.

    Args:
        path: the folder.
        recipe: its label.
        seed: of the run.
        settings: every hyper-parameter and the budget as ``section.key``, without the seed.
        zoo: its name.
        results: the rows of ``result.json``, by shot.
        per_episode: accuracies by shot and kind, where they were kept.
    """

    path: Path
    recipe: str
    seed: int
    settings: dict[str, Any]
    zoo: str
    results: dict[int, dict[str, Any]]
    per_episode: dict[tuple[int, str], PerEpisode] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        """What the rows of all shots say alike."""
        return next(iter(self.results.values()))


def read_judged(runs: Sequence[str | Path]) -> list[JudgedRun]:
    """Run folders with their results, in order; one that is named twice is read once.

    Raises:
        InputError: no run, or folders that are none or were not evaluated: all of them are named.
    """
    if not runs:
        raise InputError("no run", "run folders that were evaluated", "name them")
    read, problems = [], []
    for path in {Path(run).resolve(): Path(run) for run in runs}.values():
        try:
            read.append(_read(path))
        except InputError as error:
            problems.append(error)
    if problems:
        raise InputError(
            "\n  ".join(problem.given for problem in problems),
            problems[0].wanted,
            "; ".join(dict.fromkeys(problem.do for problem in problems)),
        )
    return read


def _read(path: Path) -> JudgedRun:
    folder, file = RunFolder(path), path / "result.json"
    if not file.exists():
        raise InputError(
            f"{path}: not evaluated (no {file.name})", "runs that were", f"dfml evaluate {path} --data DATA"
        )
    try:
        values = unsealed(read_json(file), file, f"dfml evaluate {path} --data DATA")
        if values["schema"] != RESULT_SCHEMA:
            raise ValueError(f"schema {values['schema']!r}, not {RESULT_SCHEMA}")
        results = {int(row["shot"]): row for row in values["results"]}
        per_episode = read_per_episode(path, values.get("per_episode"))
        if missing := [key for row in results.values() for key in KEYS if key not in row]:
            raise ValueError(f"no {missing[0]}")
        if not results:
            raise ValueError("no rows")
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{file}: not a result ({type(error).__name__}: {error})",
            "what `dfml evaluate` writes",
            f"dfml evaluate {path} --data DATA",
        ) from error
    run = folder.config.run
    settings = folder.identity() | {f"run.{key}": getattr(run, key) for key in BUDGET}
    settings.pop("run.seed", None)
    return JudgedRun(
        path, folder.about["recipe"], run.seed, settings, folder.about["zoo"]["name"], results, per_episode
    )
