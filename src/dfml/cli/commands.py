"""The commands; each imports what it needs, so that ``dfml --help`` is quick."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from dfml.cli.comparing import compare
from dfml.cli.reporting import report
from dfml.cli.serving import serve_teacher
from dfml.cli.show import bar, console, print_json, say
from dfml.cli.sources import data_glyphs, zoo_build, zoo_edit, zoo_list
from dfml.cli.sweeps import sweep
from dfml.cli.zoos import trust, zoo_add, zoo_audit, zoo_inspect
from dfml.errors import InputError, PartialFailure
from dfml.files import visible


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
    """
    from dfml.compute.fabric import is_first_process
    from dfml.runs.progress import console_progress
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
    first = is_first_process()
    with console_progress(console) if first else nullcontext() as progress:
        run = train_configured(
            config, Zoo.open(teachers), out=out or Path(), resume=resume, override=override, on_progress=progress
        )
    if not first:
        return
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
    size: int | None = None,
    ground: str = "white",
    zoo: str | None = None,
    jobs: int | None = None,
    executor: Literal["local", "ray"] = "local",
    accelerator: Literal["cpu", "auto"] = "cpu",
) -> None:
    """Judge a run on classes that no teacher has seen; prints a table and writes result.json.

    Args:
        run: the run folder.
        data: ``glyphs``, a folder with train, val and test, or new classes in one folder or .npz file.
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

    opened = Run.open(run, zoo=zoo)
    options: dict[str, Any] = {"split": split, "shots": shots, "way": way, "queries": queries}
    options |= {"episodes": episodes, "baselines": baselines, "accelerator": accelerator, "size": size}
    options |= {"ground": ground}
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
    from dfml.runs.run import Run

    paths = Run.open(run, zoo=zoo).recover(out, teachers=teachers)
    say(f"written: {len(paths)} pictures, among them {paths[-1]}")


def adapt(
    learner: Positional[Path],
    /,
    *,
    support: Path,
    out: Path,
    ground: str = "white",
    zoo: str | None = None,
    compare: Literal["features", "answers", "posterior"] | None = None,
    models: int | None = None,
) -> None:
    """Adapt a learner, or a whole zoo without training, to a new task and write the predictor.

    Args:
        learner: a run folder, or the learner.json that a run leaves, which needs no zoo; or a zoo, whose networks then
            all look at every image.
        support: a folder that holds a folder of a few images per class.
        out: folder for the predictor.
        ground: the colour behind transparent pixels: white, black or #rrggbb.
        zoo: of a run by an older dfml, which left no learner.json, where the zoo has moved.
        compare: of a zoo: what of its networks is compared; what tells the support's classes apart, unless given.
        models: of a zoo: so many of its models, chosen by what it says of itself; all unless given.
    """
    from dfml.learners.learner_file import has_learner, load_learner
    from dfml.learners.predictor_file import adapt_to_folder, save_predictor
    from dfml.runs.run import Run
    from dfml.zoo.index import INDEX
    from dfml.zoo.store import EMBEDDED

    if (out / "config.json").is_file() or (out / INDEX).is_file():
        raise InputError(f"--out {out}: a run or a zoo", "a folder for the predictor alone", "choose another --out")
    if (learner / INDEX).is_file() or (str(learner) in EMBEDDED and not learner.exists()):
        _adapt_zoo(str(learner), support, out, ground, compare, models)
        return
    if compare or models:
        raise InputError("--compare or --models for a learner", "a zoo", "leave them out, or name a zoo")
    made = load_learner(learner) if has_learner(learner) else Run.open(learner, zoo=zoo).learner
    classifier = adapt_to_folder(made, support, ground=ground)
    save_predictor(classifier.predictor, out, classifier.class_names)
    counts = ", ".join(f"{name} ({n})" for name, n in zip(classifier.class_names, classifier.shots, strict=True))
    say(f"adapted to {len(classifier.class_names)} classes (images of each): {counts}")
    if networks := (about := _zoo_of(learner)).get("models", 0):
        say(
            f"one network looks at an image; where {networks} are fast enough, compare what the zoo itself makes "
            f"of it:\n         dfml adapt {about['path']} --support {support} --out OTHER"
        )
    say(f"written: {out}\nnext:    dfml predict {out} IMAGES...")


def _zoo_of(run: Path) -> dict[str, Any]:
    """What a run says of its zoo; nothing where there is a learner alone."""
    from dfml.runs.run_folder import RunFolder

    try:
        return RunFolder(run).about["zoo"]
    except InputError:
        return {}


def _adapt_zoo(zoo: str, support: Path, out: Path, ground: str, compare: Any, models: int | None) -> None:
    from dfml.learners.predictor_file import save_predictor
    from dfml.runs.untrained import adapt_zoo
    from dfml.zoo import Zoo

    opened = Zoo.open(zoo)
    made = adapt_zoo(opened, support, compare=compare, models=models, ground=ground)
    classifier, networks = made.classifier, min(models or len(opened), len(opened))
    save_predictor(classifier.predictor, out, classifier.class_names)
    for way, score in made.scores.items():
        say(f"{way}: {score:.0f} % of the support classified rightly from the rest of it")
    say(f"adapted to {len(classifier.class_names)} classes by the {made.compare} of {networks} networks, untrained")
    say(
        f"every image takes all {networks} networks, {made.milliseconds:.0f} ms here; where that is too slow, or where "
        "models of several domains are mixed,"
    )
    say("`dfml train` makes one network of them")
    say(f"written: {out}\nnext:    dfml predict {out} IMAGES...")


def predict(
    predictor: Positional[Path],
    /,
    images: Positional[tuple[str, ...]],
    *,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    ground: str = "white",
) -> None:
    """Label images with a predictor; those that cannot be read are named at the end, and the exit code is 1.

    It is 2 where there is one alone, which cannot be read.

    Args:
        predictor: its folder, as `dfml adapt` writes it.
        images: image files, folders of them, or patterns such as ``photos/*.jpg``.
        as_json: print JSON lines with all probabilities, in UTF-8.
        ground: the colour behind transparent pixels: white, black or #rrggbb.
    """
    from dfml.learners.predictor_file import image_files, load_predictor

    classifier, unread, answered = load_predictor(predictor), list[InputError](), 0
    for answer in classifier.label_files(image_files(images), ground=ground):
        if answer.error is not None:
            unread.append(answer.error)
            continue
        answered += 1
        if as_json:
            row = dict(zip(classifier.class_names, answer.probabilities, strict=True))
            print_json({"image": str(answer.path), "label": answer.label, "probabilities": row})
        else:
            print(f"{visible(answer.path)}\t{visible(answer.label)}\t{100 * max(answer.probabilities):.1f} %")
    if len(unread) == 1 and not answered:
        raise InputError(visible(unread[0].given), unread[0].wanted, unread[0].do)
    if unread:
        raise PartialFailure(f"{len(unread)} not labelled:\n{_by_remedy(unread)}")


def _by_remedy(errors: Sequence[InputError]) -> str:
    """What is wrong with each, those together that are mended alike."""
    alike: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        alike.setdefault((error.wanted, error.do), []).append(f"  {visible(error.given)}\n")
    return "".join(f"{''.join(given)}    wanted: {wanted}\n    to do:  {do}\n" for (wanted, do), given in alike.items())


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
    "compare": compare,
    "recover": recover,
    "adapt": adapt,
    "predict": predict,
    "serve-teacher": serve_teacher,
    "trust": trust,
}
