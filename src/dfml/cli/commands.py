"""The commands; each imports what it needs, so that ``dfml --help`` is quick."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional

from dfml.errors import InputError

console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no markup, no wrapping."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A callback for what is done and what there is to do, shown as a bar in a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def demo(*, out: Path = Path("demo"), full: bool = False) -> None:
    """Show everything on the embedded glyphs: train, compare, picture, adapt and predict, in under five minutes.

    Args:
        out: folder for the run, the pictures and the predictor.
        full: the whole table: transductive columns, 600 and 10,000 episodes.
    """
    from dfml.harness.demo import run_demo

    run_demo(out, full=full, console=console)


def data_glyphs(
    out: Positional[Path], /, *, kind: Annotated[Literal["folder", "npz"], tyro.conf.arg(name="as")] = "folder"
) -> None:
    """Write the embedded glyph set, split into train, val and test classes.

    Args:
        out: folder to write to.
        kind: image folders to look at, or arrays.
    """
    from dfml.data import load_data, write_folder, write_npz

    paths = {"folder": write_folder, "npz": write_npz}[kind](load_data("glyphs"), out)
    say(f"written: {', '.join(str(p) for p in paths)}")


def zoo_build(
    *,
    data: str,
    out: Path,
    arch: str = "conv4",
    models: int = 100,
    way: int = 5,
    seed: int = 0,
    jobs: int | None = None,
    width: int | None = None,
    epochs: int | None = None,
    flips: bool = True,
) -> None:
    """Train a zoo of small classifiers on the meta-train classes; call it again to go on after a stop.

    Args:
        data: ``glyphs``, a folder with train, val and test, or one unsplit folder or .npz file.
        out: the zoo's folder.
        arch: conv4, resnet10 or resnet18.
        models: how many.
        way: classes of each.
        seed: draws classes and initial weights.
        jobs: processes; one a core unless given.
        width: channels of the first block; the architecture's usual ones unless given.
        epochs: of training; the architecture's usual number unless given.
        flips: mirror images in training; ``--no-flips`` where mirroring changes the class.
    """
    from dataclasses import replace

    from dfml.data import load_data
    from dfml.harness.build_zoo import TRAINING, TrainingRecipe, build_zoo, zoo_progress, zoo_table

    training = replace(TRAINING.get(arch, TrainingRecipe()), flips=flips)
    training = replace(training, epochs=epochs) if epochs else training
    with zoo_progress() as progress:
        zoo = build_zoo(
            load_data(data),
            out=out,
            architecture=arch,
            models=models,
            way=way,
            seed=seed,
            jobs=jobs,
            width=width,
            training=training,
            on_model=progress,
        )
    console.print(zoo_table(zoo))


def zoo_list(zoo: Positional[str], /) -> None:
    """Print a table of a zoo's models.

    Args:
        zoo: its folder, or ``glyphs``.
    """
    from dfml.harness.build_zoo import zoo_table
    from dfml.zoo import Zoo

    console.print(zoo_table(Zoo.open(zoo)))


def train(
    *,
    out: Path | None = None,
    zoo: str | None = None,
    recipe: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    show: bool = False,
    overrides: Annotated[Mapping[str, Any] | None, tyro.conf.Fixed, tyro.conf.Suppress] = None,
) -> None:
    """Turn a zoo into a few-shot learner, without data.

    Any hyper-parameter is an option too: ``--learner protonet``, ``--method.way 3``; ``--show`` prints them all.

    Args:
        out: the run folder.
        zoo: a zoo's folder, or ``glyphs``; a resumed run knows its own.
        recipe: a shipped recipe or a .toml file; free unless a run is resumed.
        minutes: budget of training time.
        steps: budget of steps.
        resume: go on from the newest checkpoint in the run folder.
        show: print the resolved recipe and stop.
    """
    from dfml.harness.progress import console_progress
    from dfml.harness.run_folder import RunFolder
    from dfml.harness.train import configure
    from dfml.harness.train import train as train_run

    if out is None and not show:
        raise InputError("no --out", "a folder for the run", "add --out RUN")
    asked: dict[str, Any] = {
        "recipe": recipe,
        "minutes": minutes,
        "steps": steps,
        "resume": resume,
        "overrides": overrides,
    }
    if show:
        print(configure(out or Path(), **asked).to_toml(), end="")
        return
    teachers = zoo or (RunFolder(out).about["zoo"]["path"] if resume and out else "glyphs")
    with console_progress(console) as progress:
        run = train_run(teachers, out=out or Path(), on_progress=progress, **asked)
    say(f"trained: {run.path}  (pictures in {run.folder.plots})")
    say(f"next:    dfml evaluate {run.path} --data DATA   |   dfml adapt {run.path} --support FOLDER --out PREDICTOR")


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
    zoo: str | None = None,
) -> None:
    """Judge a run on classes that no teacher has seen; prints a table and writes result.json.

    Args:
        run: the run folder.
        data: ``glyphs``, a folder with train, val and test, or one unsplit folder or .npz file.
        split: the part to use.
        shots: support images of a class.
        way: classes of an episode.
        queries: query images of a class.
        episodes: 600 where there is an inner loop and 10,000 for frozen features, unless given.
        baselines: also random, single teachers and the zoo ensemble.
        zoo: the zoo of the run, where it has moved.
    """
    from dfml.harness.adapt import Run
    from dfml.harness.tables import score_table

    opened = Run.open(run, zoo=zoo)
    options: dict[str, Any] = {"split": split, "shots": shots, "way": way, "queries": queries}
    options |= {"episodes": episodes, "baselines": baselines}
    with bar("evaluating") as progress:
        scores = opened.evaluate(data, progress=progress, **options)
    say(f"{data}, {split} classes, {way}-way, % correct with 95 % intervals")
    console.print(score_table(scores))
    for shot, (mean, ci95) in scores.gains().items():
        say(f"{shot}-shot: {mean:+.1f} ± {ci95:.1f} against the mean single teacher, paired")
    say(f"written: {opened.path / 'result.json'}")


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
    from dfml.harness.adapt import Run

    paths = Run.open(run, zoo=zoo).recover(out, teachers=teachers)
    say(f"written: {len(paths)} pictures, among them {paths[-1]}")


def adapt(run: Positional[Path], /, *, support: Path, out: Path, zoo: str | None = None) -> None:
    """Adapt a run's learner to a new task and write the predictor.

    Args:
        run: the run folder.
        support: a folder that holds a folder of a few images per class.
        out: folder for the predictor.
        zoo: the zoo of the run, where it has moved.
    """
    from dfml.harness.adapt import Run
    from dfml.learners.predictor_file import save_predictor

    classifier = Run.open(run, zoo=zoo).adapt(support)
    save_predictor(classifier.predictor, out, classifier.class_names)
    say(f"adapted to {len(classifier.class_names)} classes: {', '.join(classifier.class_names)}")
    say(f"written: {out}\nnext:    dfml predict {out} IMAGES...")


def predict(
    predictor: Positional[Path],
    /,
    images: Positional[tuple[Path, ...]],
    *,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Label images with a predictor.

    Args:
        predictor: its folder, as `dfml adapt` writes it.
        images: image files.
        as_json: print JSON lines with all probabilities.
    """
    from dfml.learners.predictor_file import load_predictor

    classifier = load_predictor(predictor)
    answer = classifier.predict_files(images)
    for path, label, row in zip(images, answer.labels, answer.probabilities.tolist(), strict=True):
        if as_json:
            probabilities = dict(zip(classifier.class_names, row, strict=True))
            print(json.dumps({"image": str(path), "label": label, "probabilities": probabilities}, ensure_ascii=False))
        else:
            print(f"{path}\t{label}\t{100 * max(row):.1f} %")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "data glyphs": data_glyphs,
    "zoo build": zoo_build,
    "zoo list": zoo_list,
    "train": train,
    "evaluate": evaluate,
    "recover": recover,
    "adapt": adapt,
    "predict": predict,
}
