"""The commands; each imports what it needs, so that ``dfml --help`` is quick."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from dfml.cli.answering import adapt, predict
from dfml.cli.comparing import compare
from dfml.cli.completion import script
from dfml.cli.judging import evaluate_predictor, is_predictor, verify
from dfml.cli.privacy import audit_privacy
from dfml.cli.reporting import report
from dfml.cli.serving import app, serve_predictor, serve_teacher
from dfml.cli.sharing import export, push
from dfml.cli.show import bar, console, print_json, say
from dfml.cli.sources import data_glyphs, zoo_build, zoo_edit, zoo_list
from dfml.cli.sweeps import sweep
from dfml.cli.zoos import trust, zoo_add, zoo_audit, zoo_inspect
from dfml.errors import InputError

if TYPE_CHECKING:
    from dfml.runs.budget import OnProgress, Update


def demo(*, out: Path = Path("demo"), full: bool = False) -> None:
    """Show everything on the embedded glyphs: train, compare, picture, adapt and predict, in under five minutes.

    Args:
        out: folder for the run, the pictures and the predictor.
        full: the whole table: transductive columns, 600 and 10,000 episodes.
    """
    from dfml.cli.demo import run_demo

    run_demo(out, full=full, console=console)


def train(
    *,
    out: Path | None = None,
    zoo: str | None = None,
    recipe: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    override: bool = False,
    show: bool = False,
    quiet: bool = False,
    json: bool = False,
    tensorboard: bool = False,
    overrides: Annotated[Mapping[str, Any] | None, tyro.conf.Fixed, tyro.conf.Suppress] = None,
) -> None:
    """Turn a zoo into a few-shot learner, without data.

    Several processes, devices or machines share a run under ``torchrun`` or ``srun``: same command, same numbers.

    Any hyper-parameter is an option too: ``--learner protonet``, ``--replay.way 3``; ``--show`` prints them all.

    Args:
        out: the run folder.
        zoo: a zoo's folder, or ``glyphs``; a resumed run knows its own.
        recipe: a shipped recipe or a .toml file; best unless a run is resumed.
        minutes: budget of training time.
        steps: budget of steps.
        resume: go on from the newest checkpoint in the run folder.
        override: with --resume, let options change hyper-parameters of the run; config.json notes it.
        show: print the resolved recipe and stop.
        quiet: print nothing but warnings and errors.
        json: print an object a line: of each step, of each note, and of the run at the end.
        tensorboard: also write metrics to tensorboard in the run folder (extra ``tensorboard``).
    """
    from dfml.compute.fabric import is_first_process
    from dfml.runs.run_folder import RunFolder
    from dfml.runs.train import configure, train_configured
    from dfml.zoo import Zoo

    if out is None and not show:
        raise InputError("no --out", "a folder for the run", "add --out RUN")
    config = configure(out or Path(), recipe=recipe, minutes=minutes, steps=steps, resume=resume, overrides=overrides)
    if show:
        print(config.to_toml(), end="")
        return
    teachers = zoo or (RunFolder(out).about["zoo"]["path"] if resume and out else "glyphs")
    out, first = out or Path(), is_first_process()
    board = out / "tensorboard" if tensorboard else None
    with _progress(quiet, json, board) if first else nullcontext() as progress:
        run = train_configured(
            config, Zoo.open(teachers), out=out, resume=resume, override=override, on_progress=progress
        )
    if json and first:
        print_json({"run": str(run.path), "pictures": str(run.folder.plots)})
    if json or quiet or not first:
        return
    say(f"trained: {run.path}  (pictures in {run.folder.plots})")
    say(f"next:    dfml evaluate {run.path} --data DATA   |   dfml adapt {run.path} --support FOLDER --out PREDICTOR")


@contextmanager
def _progress(quiet: bool, json: bool, board: Path | None) -> "Iterator[OnProgress]":
    """Everyone who wants to hear of a step."""
    from dfml.runs.progress import console_progress, json_progress, tensorboard

    with ExitStack() as stack:
        hear: "list[OnProgress]" = []
        if json:
            hear.append(json_progress(print_json))
        elif not quiet:
            hear.append(stack.enter_context(console_progress(console)))
        if board:
            hear.append(stack.enter_context(tensorboard(board)))

        def show(update: "Update") -> None:
            for each in hear:
                each(update)

        yield show


def evaluate(
    run: Positional[Path],
    /,
    *,
    data: str,
    split: Literal["test", "val"] = "test",
    shots: tuple[int, ...] = (1, 5),
    way: int = 5,
    queries: int = 15,
    episodes: int | None = None,
    baselines: bool = False,
    size: int | None = None,
    ground: str = "white",
    zoo: str | None = None,
    jobs: int | None = None,
    executor: Literal["local", "ray"] = "local",
    accelerator: Literal["cpu", "auto"] = "cpu",
) -> None:
    """Judge a run on classes that no teacher has seen, or a predictor on its own; prints tables, writes result.json.

    Args:
        run: the run folder; or a predictor's, whose answers for more images of its classes are counted, class by class.
        data: ``glyphs``, a folder with train, val and test, or new classes in one folder or .npz file; of a predictor,
            a folder that holds a folder of images per class.
        split: the part to use.
        shots: support images of a class.
        way: classes of an episode.
        queries: query images of a class.
        episodes: 600 where there is an inner loop and 10,000 for frozen features, unless given.
        baselines: also random, single teachers and the zoo ensemble.
        size: pixels of a side to read images at; what the learner takes, unless given.
        ground: the colour behind transparent pixels: white, black or #rrggbb.
        zoo: the zoo of the run, where it has moved.
        jobs: parts of the work at once; one, or one a CPU of the cluster, unless given.
        executor: processes of this machine, or the Ray cluster of RAY_ADDRESS.
        accelerator: auto computes on a GPU where torch finds one.
    """
    from dfml.compute.local import start_executor
    from dfml.report import score_table
    from dfml.runs.results import evaluate_run
    from dfml.runs.run import Run

    if is_predictor(run):
        given = {"zoo": zoo, "baselines": baselines, "episodes": episodes, "jobs": jobs, "size": size}
        if stray := [name for name, value in given.items() if value]:
            raise InputError(f"--{stray[0]} for a predictor", "--data and --ground alone", "leave it out")
        evaluate_predictor(run, Path(data), ground=ground)
        return
    opened = Run.open(run, zoo=zoo)
    options: dict[str, Any] = {"split": split, "shots": shots, "way": way, "queries": queries}
    options |= {"episodes": episodes, "baselines": baselines, "accelerator": accelerator, "size": size}
    options |= {"ground": ground}
    before = ", in the place of what was there" if (opened.path / "result.json").exists() else ""
    workers = jobs if jobs is not None or executor == "ray" else 1
    with start_executor(executor, workers) as running, bar("evaluating") as progress:
        scores = evaluate_run(opened, data, progress=progress, executor=running, **options)
    say(f"{data}, {split} classes, {way}-way, % correct with 95 % intervals")
    console.print(score_table(scores))
    for shot in scores.at_chance(way):
        say(
            f"{shot}-shot: no better than chance, {100 / way:.0f} %: look at the losses ({opened.path / 'plots'}), the "
            "recovered images (`dfml recover`) and the models (`dfml zoo audit`)"
        )
    for shot, (mean, ci95) in scores.gains().items():
        say(f"{shot}-shot: {mean:+.1f} ± {ci95:.1f} against the mean single teacher, paired")
    if scores.unwritten is not None:
        raise scores.unwritten
    say(f"written: {opened.path / 'result.json'}{before}")


def recover(
    run: Positional[Path], /, *, out: Path | None = None, teachers: tuple[str, ...] = (), zoo: str | None = None
) -> None:
    """Draw contact sheets of the images that a run recovers from its teachers.

    Args:
        run: the run folder.
        out: a folder; plots/recovered of the run unless given.
        teachers: ids; all unless given.
        zoo: the zoo of the run, where it has moved.
    """
    from dfml.runs.run import Run

    paths = Run.open(run, zoo=zoo).recover(out, teachers=teachers)
    say(f"written: {len(paths)} pictures, among them {paths[-1]}")


def completion(shell: Positional[Literal["bash", "zsh", "fish"]], /) -> None:
    """Print what makes a shell complete commands and options: ``source <(dfml completion bash)``.

    Args:
        shell: the shell that reads it.
    """
    print(script(COMMANDS, shell), end="")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "data glyphs": data_glyphs,
    "zoo build": zoo_build,
    "zoo add": zoo_add,
    "zoo list": zoo_list,
    "zoo edit": zoo_edit,
    "zoo inspect": zoo_inspect,
    "zoo audit": zoo_audit,
    "train": train,
    "report": report,
    "sweep": sweep,
    "evaluate": evaluate,
    "verify": verify,
    "audit-privacy": audit_privacy,
    "compare": compare,
    "recover": recover,
    "adapt": adapt,
    "predict": predict,
    "export": export,
    "push": push,
    "serve": serve_predictor,
    "serve-teacher": serve_teacher,
    "app": app,
    "trust": trust,
    "completion": completion,
}
