"""What the page does with images, without the page: from classes to a predictor, and its answers with their reasons."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data.folders import load_image
from dfml.errors import InputError
from dfml.files import visible
from dfml.learners.base import AbstractLearner
from dfml.learners.confidence import Confidence
from dfml.learners.nearest import directions, nearest
from dfml.learners.predictor_file import PREDICTOR, adapt_to_images, save_predictor
from dfml.learners.task_classifier import NONE, TaskClassifier, largest_spec
from dfml.nn import InputSpec
from dfml.report.looks import thumbnail
from dfml.report.page import Picture

MOST_IMAGES = 200  # of a task, and that are asked about at once
REASONS = 3  # images of the support that are shown for an answer
LARGE, SMALL = InputSpec(size=128), InputSpec(size=64)  # pictures on the page: what is asked about, and why


class Unfit(ValueError):
    """Classes that cannot be adapted to yet.

    Args:
        problems: all there are, a sentence each.
    """

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Class:
    """What was put into one field of the page.

    Args:
        name: may be empty, as may be the files.
        files: of its images.
    """

    name: str
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Task:
    """Classes that a learner was adapted to.

    Args:
        classifier: what `dfml predict` takes.
        seen: of the support's images, as `directions` gives them.
        pictures: of these, each with its class.
    """

    classifier: TaskClassifier
    seen: Float[Tensor, "n d"]
    pictures: Sequence[tuple[Picture, str]]

    def sentences(self) -> list[str]:
        """What it was adapted to, and how sure that is, for people."""
        pairs = zip(self.classifier.class_names, self.classifier.shots, strict=True)
        counts = ", ".join(f"{visible(name)} ({_images(shots)})" for name, shots in pairs)
        sure = Confidence(**self.classifier.about["confidence"]).sentences()
        return [f"Adapted to {counts}.", *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sure)]


@dataclass(frozen=True)
class Answer:
    """What is said of one image.

    Args:
        name: of its file.
        picture: None where it cannot be read.
        label: the class, or `NONE`; in the place of an answer, why there is none.
        chances: each class with its probability, the largest first.
        reasons: the most alike images of the support, each with its class and similarity.
    """

    name: str
    picture: Picture | None
    label: str
    chances: Sequence[tuple[str, float]] = ()
    reasons: Sequence[tuple[Picture, str, float]] = field(default_factory=tuple)

    @property
    def is_none(self) -> bool:
        """Whether it is of none of the classes."""
        return self.label == NONE


def adapt(learner: AbstractLearner, classes: Sequence[Class], *, reject: float | None = None) -> Task:
    """Adapt to the images of some classes.

    Args:
        learner: stays as it is.
        classes: those of neither name nor image are passed over.
        reject: see `dfml.learners.confidence.adapt_surely`.

    Raises:
        Unfit: fewer than two classes, one without a name or image, a name that came twice, an unreadable image, too
            many; everything at once.
    """
    given = [Class(c.name.strip(), c.files) for c in classes if c.name.strip() or c.files]
    problems = list(_problems(given, reject))
    spec, images, labels, pictures = largest_spec(learner.networks), list[Tensor](), list[int](), []
    for number, one in enumerate(given if sum(len(c.files) for c in given) <= MOST_IMAGES else []):
        for path in one.files:
            try:
                images.append(load_image(path, spec))
                pictures.append((_picture(path, SMALL), one.name))
                labels.append(number)
            except InputError as error:
                problems.append(f"{_of(one)}: {_plain(error, path)}")
    if problems:
        raise Unfit(problems)
    support, names = torch.stack(images), [c.name for c in given]
    try:
        classifier = adapt_to_images(learner, support, torch.tensor(labels), names, reject=reject)
    except InputError as error:
        raise Unfit([f"{error.given}: {error.do}."]) from error
    return Task(classifier, directions(classifier.predictor, support), pictures)


def _problems(classes: Sequence[Class], reject: float | None):
    if len(classes) < 2:
        yield "Two classes at least are wanted, each with a name and an image."
    for name, times in Counter(c.name for c in classes).items():
        if name and times > 1:
            yield f"{times} classes are named “{visible(name)}”: give each a name of its own."
    for one in classes:
        if not one.name:
            yield f"A class with {_images(len(one.files))} has no name."
        if not one.files:
            yield f"{_of(one)} has no image yet."
    if (count := sum(len(c.files) for c in classes)) > MOST_IMAGES:
        yield f"{count} images; {MOST_IMAGES} at most can be adapted to here, any number by “dfml adapt”."
    if reject is not None and all(len(c.files) < 2 for c in classes):
        yield f"To know what is {NONE}, two images of a class are wanted at least."


def ask(task: Task, files: Sequence[Path]) -> list[Answer]:
    """An answer for each image file; what cannot be read has its reason in the place of one.

    Raises:
        Unfit: too many at once.
    """
    if len(files) > MOST_IMAGES:
        raise Unfit([f"{len(files)} images; {MOST_IMAGES} at most at once, any number by “dfml predict”."])
    read: dict[int, Tensor] = {}
    answers = list[Answer]()
    for number, path in enumerate(files):
        try:
            read[number] = load_image(path, task.classifier.spec)
            answers.append(Answer(path.name, _picture(path, LARGE), ""))
        except InputError as error:
            answers.append(Answer(path.name, None, _plain(error, path)))
    if not read:
        return answers
    images = torch.stack(list(read.values()))
    said = task.classifier.predict(images)
    alike = nearest(directions(task.classifier.predictor, images), task.seen, REASONS)
    for number, label, row, *reason in zip(read, said.labels, said.probabilities.tolist(), *alike, strict=True):
        chances = sorted(zip(task.classifier.class_names, row, strict=True), key=lambda pair: -pair[1])
        reasons = [(*task.pictures[i], s) for i, s in zip(*(r.tolist() for r in reason), strict=True)]
        answers[number] = Answer(answers[number].name, answers[number].picture, label, chances, reasons)
    return answers


def packed(task: Task, folder: Path) -> Path:
    """A zip file in ``folder`` of a predictor's folder, as `dfml adapt` writes it."""
    save_predictor(task.classifier, folder / PREDICTOR)
    return Path(shutil.make_archive(str(folder / PREDICTOR), "zip", root_dir=folder, base_dir=PREDICTOR))


def _picture(path: Path, spec: InputSpec) -> Picture:
    """The square of an image that the networks see, at a size for people."""
    return Picture(thumbnail(load_image(path, spec)), path.name)


def _plain(error: InputError, path: Path) -> str:
    """For whoever dropped a file and knows nothing of where it lies here."""
    return visible(f"{error.given}; {error.do}.".replace(str(path), path.name))


def _of(one: Class) -> str:
    return f"Class “{visible(one.name)}”" if one.name else "A class without a name"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
