"""What the runs of a sweep will be, and everything that is wrong with any of them, before the first one starts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.recipes.options import Config
from dfml.recipes.resolving import resolver
from dfml.runs.run_folder import RunFolder
from dfml.runs.train import check_capabilities
from dfml.zoo import Zoo

LONGEST = 200  # characters of a folder's name; file systems take 255


@dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Args:
        name: of its folder, made of its values.
        values: hyper-parameter -> value, and the seed.
        config: the resolved configuration.
    """

    name: str
    values: dict[str, Any]
    config: Config


def plan_sweep(
    zoo: Zoo,
    out: Path,
    recipe: str | Path,
    grid: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    minutes: float | None,
    steps: int | None,
) -> list[Combination]:
    """The combinations for these arguments of `dfml.runs.sweep.sweep`, checked.

    Raises:
        InputError: everything that is wrong in any of them, each problem once.
    """
    problems = _grid_problems(grid, seeds)
    budget = {f"run.{k}": v for k, v in (("minutes", minutes), ("steps", steps)) if v is not None}
    combinations: list[Combination] = []
    for *chosen, seed in product(*grid.values(), seeds):
        values = dict(zip(grid, chosen, strict=True))
        one = resolver(recipe)
        try:
            config = one.resolve(values | budget | {"run.seed": seed})
        except InputError:
            problems += one.problems
            continue
        combinations.append(Combination(folder_name(values | {"seed": seed}), values | {"seed": seed}, config))
        problems += _run_problems(combinations[-1], zoo, out)
    names = [c.name for c in combinations]
    problems += [f"{name}: twice" for name in names if names.count(name) > 1]
    problems += [f"{name[:40]}...: a name of {len(name)} characters" for name in names if len(name) > LONGEST]
    if problems:
        problems = list(dict.fromkeys(problems))
        raise InputError(
            f"sweep of {recipe}: {len(problems)} problem(s)" + "".join(f"\n  - {p}" for p in problems),
            "combinations that are all valid; none has been started",
            "correct --grid, --seeds or --out; `dfml train --recipe NAME --show` prints every name and value",
        )
    return combinations


def read_grid(words: Iterable[str]) -> dict[str, list[str]]:
    """``NAME=V1,V2`` of each word to name -> values; a comma between brackets belongs to its value.

    Raises:
        InputError: a word of another form, or a name twice.
    """
    grid: dict[str, list[str]] = {}
    for word in words:
        name, _, text = word.removeprefix("--").partition("=")
        values = re.split(r",(?![^\[]*\])", text)
        if not name or not all(values) or name in grid:
            twice = " (its name stands there twice)" if name in grid else ""
            raise InputError(f"--grid {word!r}{twice}", "NAME=VALUE,VALUE,... once a name", "as in --grid lr=0.1,0.2")
        grid[name] = values
    return grid


def folder_name(values: Mapping[str, Any]) -> str:
    """``lr=0.1_seed=0``, with a ``-`` for what a file name should not hold."""
    return re.sub(r"[^\w.=+-]+", "-", "_".join(f"{name}={value}" for name, value in values.items()))


def _grid_problems(grid: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> list[str]:
    problems = [f"--grid {name}: use --seeds" for name in grid if name in ("seed", "run.seed")]
    return problems + ([] if seeds else ["--seeds: none given"])


def _run_problems(combination: Combination, zoo: Zoo, out: Path) -> list[str]:
    """A method that cannot be built or does not fit the zoo, or a folder that belongs to another run."""
    folder = out / combination.name
    try:
        check_capabilities(combination.config.build(), zoo)
        if (folder / "config.json").exists():
            return [f"{folder}: {d}" for d in RunFolder(folder).differences(combination.config, zoo)]
    except InputError as error:
        return [f"{combination.name}: {error.given}"]
    return [f"{folder}: not empty, and not a run folder"] if folder.is_dir() and any(folder.iterdir()) else []
