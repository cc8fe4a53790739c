"""Training from Python: one call from a zoo and a recipe to a run."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from dfml.compute.fabric import launch
from dfml.compute.memory import memory_bytes
from dfml.errors import InputError
from dfml.files import locked
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.randomness import Rng
from dfml.recipes.options import Config, RunOptions
from dfml.recipes.resolving import resolve
from dfml.runs.budget import OnProgress, Update
from dfml.runs.checkpoint import restore
from dfml.runs.forecast import start_notes
from dfml.runs.growing import check_grows, initial_state
from dfml.runs.loop import Loop
from dfml.runs.mirroring import with_mirroring
from dfml.runs.plots import plot_curves
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.stopping import Interrupted
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
        resume: go on from the newest checkpoint; models may have joined the zoo since, where the method can go on with
            them (`AbstractMethod.grows`).
        override: with ``resume``, let ``overrides`` change hyper-parameters of the run; config.json notes it.
        overrides: hyper-parameters by name, ``{"lr": 0.1}`` or ``{"method.lr": 0.1}``.
        on_progress: called after every step.

    Raises:
        InputError: a wrong configuration, zoo or folder; before any work.
        Stopped: Ctrl-C, SIGTERM or SIGHUP; a checkpoint is written.
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
    zoo = zoo.set_up(canvas_size=config.run.canvas, cache_bytes=int(config.run.cache * memory_bytes()))
    zoo = zoo.as_black_boxes(config.run.told or zoo.told)
    method = config.build()
    check_capabilities(method, zoo)
    if config.run.compile and not method.compiles:
        raise InputError(
            f"compile = true for {type(method).__name__}",
            "a method that trains one network over and over, as free and consolidate do",
            "set --run.compile false",
        )
    config, found = with_mirroring(config, zoo)
    method = config.build()
    fabric, ranks = launch(config.run.accelerator)
    with ExitStack() as stack:
        if ranks.rank == 0:
            if not resume:
                RunFolder.create(out, config, zoo)
            stack.enter_context(locked(RunFolder(out).path, "training"))
            if resume:
                check_grows(method, zoo, RunFolder(out).about["zoo"])
                if override:
                    _check_fits(method, zoo, RunFolder(out))
                RunFolder.reopen(out, config, zoo, override=override)
        fabric.barrier()
        folder = RunFolder(out)
        told = partial(_tell, on_progress, config.run, zoo, found) if on_progress else None
        loop = Loop(method, zoo, folder, config.run, on_progress, ranks=ranks, device=fabric.device, on_start=told)
        try:
            loop.run()
        except (InputError, Interrupted):
            if ranks.rank == 0 and not resume and not folder.metrics():
                shutil.rmtree(folder.path)  # so that the command, corrected, may be given again
            raise
        if ranks.rank == 0:
            plot_curves(folder.metrics(), folder.plots)
    return Run(folder, zoo)


def _check_fits(method: AbstractMethod, zoo: Zoo, folder: RunFolder) -> None:
    """Refuse hyper-parameters with which the newest checkpoint cannot be read, before any of them is noted."""
    if (saved := folder.checkpoints.latest()) is not None:
        stages = folder.stages[: saved.get("stages", 1)]
        state = initial_state(method, zoo, stages, Rng(folder.config.run.seed).at("init"))
        restore(state, saved, folder.path)


def _tell(on_progress: OnProgress, options: RunOptions, zoo: Zoo, found: tuple[str, ...], state: AbstractState) -> None:
    """What was found and left out, and what memory the models take, if anything is worth a word."""
    if notes := (*found, *start_notes(zoo, state)):
        on_progress(Update(state.step, 0.0, options, notes=notes))


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
    """Refuse a zoo whose models cannot be asked for what the method needs, before any work.

    A model that fits one of the method's roles and not another is used in the one.

    Raises:
        InputError: a model that fits no role, or a role that no model fits; names them, and what each lacks.
    """
    roles = method.requires()
    able = {i: zoo.capabilities(i) for i in zoo.ids}
    for role, needed in roles.items():
        idle = [i for i, has in able.items() if not any(other in has for other in roles.values())]
        fits = any(needed in has for has in able.values())
        if fits and not idle:
            continue
        named = idle or list(able)
        problems = [f"{i} cannot give {(needed & ~able[i]).name}" for i in named if needed & ~able[i]]
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(
            f"zoo {zoo.name}: {'; '.join(problems[:5])}{more}",
            f"teachers that give {needed.name} ({role.value}), for {type(method).__name__} with these hyper-parameters",
            "choose another recipe, set the weights that need it to 0, or leave those models out of the zoo",
        )
