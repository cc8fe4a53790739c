"""The command that trains a recipe many times."""

from pathlib import Path
from typing import Any, Literal

import tyro

from dfml.cli.show import bar, console, say
from dfml.errors import InputError


def sweep(
    *,
    out: Path,
    zoo: str = "glyphs",
    recipe: str = "best",
    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seeds: tuple[int, ...] = (0,),
    minutes: float | None = None,
    steps: int | None = None,
    data: str | None = None,
    split: Literal["val", "test"] = "val",
    shots: tuple[int, ...] = (1, 5),
    way: int = 5,
    queries: int = 15,
    episodes: int | None = None,
    jobs: int | None = None,
    executor: Literal["local", "ray"] = "local",
) -> None:
    """Train a recipe with every combination of values and seeds, and compare; call it again to go on after a stop.

    Args:
        out: holds a run folder a combination, and sweep.jsonl.
        zoo: a zoo's folder, or ``glyphs``.
        recipe: a shipped recipe or a .toml file.
        grid: ``NAME=VALUE,VALUE,...``; several are crossed.
        seeds: one run each.
        minutes: budget of training time of each run.
        steps: budget of steps of each run.
        data: judge each run on real classes that no teacher has seen; left out, runs are compared by pseudo-val.
        split: the part to use; ``test`` only to report, never to choose.
        shots: support images of a class; runs are sorted by the first.
        way: classes of an episode.
        queries: query images of a class.
        episodes: 600 where there is an inner loop and 10,000 for frozen features, unless given.
        jobs: runs at once; one a core, or one a CPU of the cluster, unless given.
        executor: processes of this machine, or the Ray cluster of RAY_ADDRESS, whose machines see the same folders.
    """
    from dfml.report import sweep_table
    from dfml.runs.sweep import LINES, Judging, Line
    from dfml.runs.sweep import sweep as run_sweep
    from dfml.runs.sweep_plan import read_grid

    judging = Judging(data, split, shots, way, queries, episodes) if data else None
    options: dict[str, Any] = {"recipe": recipe, "grid": read_grid(grid), "seeds": seeds, "judging": judging}
    options |= {"minutes": minutes, "steps": steps, "jobs": jobs, "executor": executor}
    with bar("runs") as progress:

        def hear(done: int, runs: int, line: Line | None) -> None:
            progress(done, runs)
            if line is not None:
                say(f"{done}/{runs}  {line['name']}" + ("  failed" if "error" in line else ""))

        lines = run_sweep(zoo, out=out, on_run=hear, **options)
    console.print(sweep_table(lines))
    say(f"written: {out / LINES}")
    if failed := [line["name"] for line in lines if "error" in line]:
        raise InputError(
            f"{len(failed)} of {len(lines)} runs failed: {', '.join(failed)}",
            "runs that end",
            f"read error and traceback in {out / LINES}; called again, the sweep tries these again",
        )
