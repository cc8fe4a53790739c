"""The commands that make a classifier of a few images, and that ask it."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from dfml.cli.show import counting, print_json, say
from dfml.errors import InputError, PartialFailure
from dfml.files import visible

if TYPE_CHECKING:
    from dfml.learners.task_classifier import FileAnswer, TaskClassifier


def adapt(
    learner: Positional[Path],
    /,
    *,
    support: Path,
    out: Path,
    reject: float | None = None,
    calibrate: bool = True,
    ground: str = "white",
    zoo: str | None = None,
    compare: Literal["features", "answers", "posterior"] | None = None,
    models: int | None = None,
) -> None:
    """Adapt a learner, or a whole zoo without training, to a new task and write the predictor.

    Its probabilities are calibrated on the support, each image answered by what the others teach.

    Args:
        learner: a run folder, or the learner.json that a run leaves, which needs no zoo; or a zoo, whose networks then
            all look at every image; or hf:OWNER/NAME, a learner that was pushed to the Hugging Face hub.
        support: a folder that holds a folder of a few images per class.
        out: folder for the predictor.
        reject: the share of images of these classes, 0.05 say, that may be called none of these, so that others are.
        calibrate: off, the learner's own scale of certainty is kept.
        ground: the colour behind transparent pixels: white, black or #rrggbb.
        zoo: of a run by an older dfml, which left no learner.json, where the zoo has moved.
        compare: of a zoo: what of its networks is compared; what tells the support's classes apart, unless given.
        models: of a zoo: so many of its models, chosen by what it says of itself; all unless given.
    """
    from dfml.hub import fetched
    from dfml.learners.predictor_file import adapt_to_folder
    from dfml.runs.load import is_zoo, trained
    from dfml.zoo.index import INDEX

    if (out / "config.json").is_file() or (out / INDEX).is_file():
        raise InputError(f"--out {out}: a run or a zoo", "a folder for the predictor alone", "choose another --out")
    learner = fetched(learner)
    options: dict[str, Any] = {"reject": reject, "calibrate": calibrate, "ground": ground}
    if is_zoo(learner):
        _adapt_zoo(str(learner), support, out, options | {"compare": compare, "models": models})
        return
    if compare or models:
        raise InputError("--compare or --models for a learner", "a zoo", "leave them out, or name a zoo")
    classifier = adapt_to_folder(trained(learner, zoo), support, **options)
    _write(classifier, out)
    counts = ", ".join(f"{name} ({n})" for name, n in zip(classifier.class_names, classifier.shots, strict=True))
    say(f"adapted to {len(classifier.class_names)} classes (images of each): {counts}")
    _say_how_sure(classifier)
    if networks := (about := _zoo_of(learner)).get("models", 0):
        say(
            f"one network looks at an image; where {networks} are fast enough, compare what the zoo itself makes "
            f"of it:\n         dfml adapt {about['path']} --support {support} --out OTHER"
        )
    say(f"next:    dfml predict {out} IMAGES...")


def _say_how_sure(classifier: "TaskClassifier") -> None:
    from dfml.learners.confidence import Confidence

    for sentence in Confidence(**classifier.about["confidence"]).sentences():
        say(sentence)


def _zoo_of(run: Path) -> dict[str, Any]:
    """What a run says of its zoo; nothing where there is a learner alone."""
    from dfml.runs.run_folder import RunFolder

    try:
        return RunFolder(run).about["zoo"]
    except InputError:
        return {}


def _write(classifier: "TaskClassifier", out: Path) -> None:
    from dfml.learners.predictor_file import PREDICTOR, save_predictor

    before = (out / f"{PREDICTOR}.json").exists()
    save_predictor(classifier, out)
    (out / "result.json").unlink(missing_ok=True)  # of the predictor that was there
    say(f"written: {out}{', in the place of the predictor that was there' if before else ''}")


def _adapt_zoo(zoo: str, support: Path, out: Path, options: dict[str, Any]) -> None:
    from dfml.runs.untrained import adapt_zoo
    from dfml.zoo import Zoo

    opened = Zoo.open(zoo)
    made = adapt_zoo(opened, support, **options)
    classifier, networks = made.classifier, min(options["models"] or len(opened), len(opened))
    _write(classifier, out)
    for way, score in made.scores.items():
        say(f"{way}: {score:.0f} % of the support classified rightly from the rest of it")
    say(f"adapted to {len(classifier.class_names)} classes by the {made.compare} of {networks} networks, untrained")
    say(
        f"every image takes all {networks} networks, {made.milliseconds:.0f} ms here; where that is too slow, or where "
        "models of several domains are mixed,"
    )
    say("`dfml train` makes one network of them")
    _say_how_sure(classifier)
    say(f"next:    dfml predict {out} IMAGES...")


def predict(
    predictor: Positional[Path],
    /,
    images: Positional[tuple[str, ...]],
    *,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    as_csv: Annotated[bool, tyro.conf.arg(name="csv")] = False,
    sort_into: Path | None = None,
    ground: str = "white",
) -> None:
    """Label images with a predictor; those that cannot be read are named at the end, and the exit code is 1.

    It is 2 where there is one alone, which cannot be read.

    Args:
        predictor: its folder, as `dfml adapt` writes it; or hf:OWNER/NAME, one that was pushed to the Hugging Face hub.
        images: image files, folders of them, or patterns such as ``photos/*.jpg``.
        as_json: print JSON lines with all probabilities, in UTF-8.
        as_csv: print a table with all probabilities, a class a column.
        sort_into: a folder: each image is copied to the folder of its class in it; nothing there is overwritten.
        ground: the colour behind transparent pixels: white, black or #rrggbb.
    """
    from dfml.data.sorting import sort_image
    from dfml.hub import fetched
    from dfml.learners.predictor_file import load_predictor
    from dfml.learners.task_classifier import image_files

    if as_json and as_csv:
        raise InputError("--json and --csv", "one of them", "leave one out")
    classifier, unread, answered = load_predictor(fetched(predictor)), list[InputError](), 0
    files = image_files(images)
    if as_csv:
        csv.writer(sys.stdout).writerow(["image", "label", *classifier.class_names])
    with counting("images", len(files)) as count:
        for answer in classifier.label_files(files, ground=ground):
            count()
            if answer.error is not None:
                unread.append(answer.error)
                continue
            answered += 1
            _print(answer, classifier, "json" if as_json else "csv" if as_csv else "text")
            if sort_into is not None:
                sort_image(answer.path, sort_into, answer.label)
    if sort_into is not None:
        print(f"copied: {answered} images into {sort_into}", file=sys.stderr)
    say_unread(unread, answered)


def _print(answer: "FileAnswer", classifier: "TaskClassifier", form: str) -> None:
    if form == "json":
        row = dict(zip(classifier.class_names, answer.probabilities, strict=True))
        print_json({"image": str(answer.path), "label": answer.label, "probabilities": row})
    elif form == "csv":
        csv.writer(sys.stdout).writerow([answer.path, answer.label, *(f"{p:.6g}" for p in answer.probabilities)])
    else:
        print(f"{visible(answer.path)}\t{visible(answer.label)}\t{100 * max(answer.probabilities):.1f} %")


def say_unread(unread: Sequence[InputError], answered: int) -> None:
    """End with what could not be read, where there is something.

    Raises:
        InputError: it was one image alone.
        PartialFailure: of many.
    """
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
