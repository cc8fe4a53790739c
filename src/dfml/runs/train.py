"""Training from Python: one call from a zoo and a recipe to a run."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from dfml.compute.fabric import launch
from dfml.errors import InputError
from dfml.lock import only_writer
from dfml.methods.base import AbstractMethod
from dfml.recipes.options import Config
from dfml.recipes.resolving import resolve
from dfml.runs.budget import OnProgress
from dfml.runs.loop import Loop
from dfml.runs.plots import plot_curves
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo


def train(
    zoo: Zoo | str | Path,
    *,
    out: str | Path,
    recipe: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    override: bool = False,
    overrides: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Run:
    """Turn a zoo into a few-shot learner.

    Under ``torchrun`` or ``srun`` every process calls this, and they share the run (`dfml.compute.fabric`).

    Args:
        zoo: a zoo, its path, or ``"glyphs"``.
        out: the run folder to make, or with ``resume`` to go on with.
        recipe: a shipped recipe's name or a TOML file; None is ``best``, and with ``resume`` the folder's own.
        minutes: budget of training time, all resumes together.
        steps: budget of steps; whichever budget is used first ends the run.
        resume: go on from the newest checkpoint.
        override: a resumed run may take other hyper-parameters than it was started with; its folder tells of them.
        overrides: hyper-parameters by name, ``{"lr": 0.1}`` or ``{"method.lr": 0.1}``.
        on_progress: called after every step.

    Raises:
        InputError: a wrong configuration, zoo or folder, or one that another process trains, before any work; a full
            disk in the middle of it, after which the newest checkpoint stands.
        Stopped: Ctrl-C or SIGTERM; a checkpoint is written.
        LostRank: another process of the run is gone; the newest checkpoint stands.
    """
    config = configure(out, recipe=recipe, minutes=minutes, steps=steps, resume=resume, overrides=overrides)
    zoo = zoo if isinstance(zoo, Zoo) else Zoo.open(zoo)
    return train_configured(config, zoo, out=out, resume=resume, override=override, on_progress=on_progress)


def train_configured(
    config: Config,
    zoo: Zoo,
    *,
    out: str | Path,
    resume: bool = False,
    override: bool = False,
    on_progress: OnProgress | None = None,
) -> Run:
    """`train`, with a configuration that is resolved already."""
    method = config.build()
    check_capabilities(method, zoo)
    if config.run.compile and not method.compiles:
        raise InputError(
            f"compile = true for {type(method).__name__}",
            "a method that trains one network over and over, as free and consolidate do",
            "set --run.compile false",
        )
    fabric, ranks = launch(config.run.accelerator)
    with only_writer(Path(out), "trained") if ranks.rank == 0 else nullcontext():
        if ranks.rank == 0:
            reopen = partial(RunFolder.reopen, override=override)
            folder = (reopen if resume else RunFolder.create)(out, config, zoo)
        fabric.barrier()
        folder = folder if ranks.rank == 0 else RunFolder(out)
        Loop(method, zoo, folder, config.run, on_progress, ranks=ranks, device=fabric.device).run()
        if ranks.rank == 0:
            plot_curves(folder.metrics(), folder.plots)
    return Run(folder, zoo)


def configure(
    out: str | Path,
    *,
    recipe: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of a call of `train`; see there."""
    budget = {f"run.{k}": v for k, v in (("minutes", minutes), ("steps", steps)) if v is not None}
    if resume and recipe is None:
        own = RunFolder(out).config
        return resolve(own.sections, dict(overrides or {}) | budget, label=own.recipe)
    return resolve(recipe or "best", dict(overrides or {}) | budget)


def check_capabilities(method: AbstractMethod, zoo: Zoo) -> None:
    """Refuse a zoo whose models cannot be asked for what the method needs; looks at the first model."""
    teacher = zoo.teacher(zoo.ids[0])
    missing = method.requires & ~teacher.capabilities
    if missing:
        raise InputError(
            f"zoo {zoo.name}: {teacher.card.id} cannot give {missing.name}",
            f"teachers with {method.requires.name} for {type(method).__name__}",
            "choose another recipe or zoo",
        )
