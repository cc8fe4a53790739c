"""A sweep: one recipe with other values and seeds. Every combination is a run folder of its own, and one job."""

import json
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dfml.compute.local import start_executor
from dfml.data import load_split
from dfml.errors import InputError
from dfml.evaluation.evaluate import check_disjoint
from dfml.files import parse_json, regular, sealed, unsealed, without_nan, write_atomic
from dfml.runs.provenance import describe_zoo
from dfml.runs.results import evaluate_run
from dfml.runs.run import Run
from dfml.runs.sweep_plan import Combination, plan_sweep
from dfml.runs.train import train_configured
from dfml.stopping import Interrupted, interrupts
from dfml.zoo import Zoo

SWEEP_SCHEMA = 1
LINES = "sweep.jsonl"
REMAKE = "remove it: runs that ended are read from their folders and judged again"
Line = dict[str, Any]


@dataclass(frozen=True)
class Judging:
    """What every run is evaluated on: ``val`` unless somebody asks for ``test``, so that nobody tunes on test classes.

    Args:
        data: where the real images are; see `dfml.data.load_split`.
        split: the part to use.
        shots: support images of a class; runs are sorted by the first.
        way: classes of an episode.
        queries: query images of a class.
        episodes: None is 600 where there is an inner loop and 10,000 for frozen features.
    """

    data: str
    split: Literal["val", "test"] = "val"
    shots: tuple[int, ...] = (1, 5)
    way: int = 5
    queries: int = 15
    episodes: int | None = None


def sweep(
    zoo: Zoo | str | Path,
    *,
    out: str | Path,
    recipe: str | Path | None = None,
    grid: Mapping[str, Sequence[str]] | None = None,
    seeds: Sequence[int] = (0,),
    minutes: float | None = None,
    steps: int | None = None,
    judging: Judging | None = None,
    jobs: int | None = None,
    executor: str = "local",
    on_run: Callable[[int, int, Line | None], None] | None = None,
) -> list[Line]:
    """Train every combination of the grid's values and the seeds, each in a folder named by its values.

    Run again, it goes on: what ``out``/sweep.jsonl holds is not done again, a run that was cut short is resumed, one
    that failed is tried again. A run that fails does not stop the others. Run folders are written by the jobs, so that
    a cluster needs ``out``, the zoo and the data at the same paths on every machine; sweep.jsonl is written here alone.

    Args:
        zoo: a zoo, its path, or ``"glyphs"``.
        out: holds the run folders and sweep.jsonl.
        recipe: a shipped recipe's name or a TOML file; None is ``best``.
        grid: hyper-parameter -> values, as the command line takes them; all are crossed.
        seeds: one run each.
        minutes: budget of a run.
        steps: budget of a run.
        judging: how runs are evaluated; None leaves it out.
        jobs: runs at once; None is one a core, or one a CPU of the cluster.
        executor: ``local`` or ``ray``.
        on_run: called with runs done, all runs, and the line of the run that ended (None before the first).

    Returns:
        A line a run, best first: by accuracy at the first shot, or by ``pseudo_val`` where nothing is judged; what has
        neither comes last. A line with an ``error`` is of a run that failed.

    Raises:
        InputError: everything that is wrong in any combination, before the first one starts.
    """
    zoo, out = zoo if isinstance(zoo, Zoo) else Zoo.open(zoo), Path(out).resolve()
    combinations = plan_sweep(zoo, out, recipe or "best", grid or {}, seeds, minutes, steps)
    judging = _checked(judging, zoo) if judging else None
    wanted = {c.name: _line(c, zoo, judging) for c in combinations}
    lines = {name: line for name, line in _read(out).items() if name in wanted and _done(line, wanted[name])}
    tasks = [c for c in combinations if c.name not in lines]
    tell = on_run or (lambda done, of, line: None)
    tell(len(lines), len(combinations), None)
    try:
        if tasks:
            out.mkdir(parents=True, exist_ok=True)
            work = partial(_run, str(describe_zoo(zoo)["path"]), out, judging)
            with start_executor(executor, jobs, tasks=len(tasks)) as running, interrupts():
                for name, outcome in running.run(work, tasks):
                    lines[name] = wanted[name] | outcome
                    _write(out, lines)
                    tell(len(lines), len(combinations), lines[name])
    except KeyboardInterrupt as stop:
        said = f"stopped; {len(lines)} of {len(combinations)} runs are done in {out}, and the same command goes on"
        raise Interrupted(getattr(stop, "signum", signal.SIGINT), said) from stop
    ranked = sorted(lines.values(), key=_rank)
    _write(out, {line["name"]: line for line in ranked})
    return ranked


def _run(zoo: str, out: Path, judging: Judging | None, combination: Combination) -> tuple[str, Line]:
    """One job: train and judge; what goes wrong is an outcome, too."""
    try:
        folder = out / combination.name
        resume = (folder / "config.json").exists()
        run = train_configured(combination.config, Zoo.open(zoo), out=folder, resume=resume)
        return combination.name, _outcome(run, judging)
    except Exception as error:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        return combination.name, {"error": f"{kind}{error}", "traceback": traceback.format_exc()}


def _outcome(run: Run, judging: Judging | None) -> Line:
    accuracy = {}
    if judging is not None:
        asked = {"split": judging.split, "way": judging.way, "queries": judging.queries, "episodes": judging.episodes}
        scores = evaluate_run(run, judging.data, shots=judging.shots, transductive=False, **asked).scores  # type: ignore[arg-type]
        accuracy = {str(shot): score["inductive"].to_dict() for shot, score in scores.items()}
    saved = run.checkpoint
    cost = {"steps": saved["step"], "seconds": round(saved["totals"]["total"], 1)}
    return cost | {"pseudo_val": saved["validation"].get("pseudo_val"), "accuracy": accuracy}


def _checked(judging: Judging, zoo: Zoo) -> Judging:
    """With an absolute path, since a job may work in another folder; refuses classes that the zoo knows."""
    data = str(Path(judging.data).resolve()) if Path(judging.data).exists() else judging.data
    check_disjoint(zoo, load_split(data, judging.split, known=set(zoo.class_names.values())))
    return Judging(**(asdict(judging) | {"data": data}))


def _line(combination: Combination, zoo: Zoo, judging: Judging | None) -> Line:
    """What a run's line says before it has run: whether an older line answers the same question is read from it."""
    head: Line = {"schema": SWEEP_SCHEMA, "name": combination.name, "values": combination.values}
    head |= {"recipe": combination.config.recipe, "recipe_hash": combination.config.hash, "zoo": zoo.hash}
    return head | {"judged": json.loads(json.dumps(asdict(judging))) if judging else None}


def _done(line: Line, wanted: Line) -> bool:
    return "error" not in line and all(line.get(key) == value for key, value in wanted.items())


def _rank(line: Line) -> tuple[bool, float, str]:
    judged = list(line.get("accuracy", {}).values())
    accuracy = judged[0]["mean"] if judged else line.get("pseudo_val")
    return accuracy is None, -(accuracy or 0.0), line["name"]


def _read(out: Path) -> dict[str, Line]:
    path = out / LINES
    try:
        texts = regular(path).read_bytes().splitlines() if path.exists() else []
        lines = [unsealed(parse_json(text), path, REMAKE) for text in texts]
        return {line["name"]: line for line in lines if (out / line["name"] / "config.json").exists()}
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: not the lines of a sweep ({type(error).__name__}: {error})",
            "the file as the sweep wrote it",
            REMAKE,
        ) from error


def _write(out: Path, lines: Mapping[str, Line]) -> None:
    write_atomic(out / LINES, "".join(json.dumps(sealed(without_nan(line))) + "\n" for line in lines.values()).encode())
