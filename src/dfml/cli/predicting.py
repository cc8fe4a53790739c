"""Labels for many images: one that cannot be read does not cost the others their answers."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from dfml.cli.show import complain, print_json, visible
from dfml.data import load_image
from dfml.data.folders import SUFFIXES
from dfml.errors import InputError
from dfml.learners.predictor_file import BATCH, TaskClassifier


def find_images(words: Sequence[Path]) -> list[Path]:
    """Files as they are named, the images in folders at any depth, and what patterns stand for.

    Raises:
        InputError: nothing at all.
    """
    found = [path for word in words for path in _named(word)]
    if not found:
        given = ", ".join(visible(word) for word in words) or "no images"
        raise InputError(f"{given}: no images", "image files, folders with images, or patterns", "check the paths")
    return found


def _named(word: Path) -> list[Path]:
    if word.is_dir():
        return sorted(p for p in word.rglob("*") if p.suffix.lower() in SUFFIXES and _shown(p.relative_to(word)))
    if word.exists() or not glob.has_magic(str(word)):
        return [word]
    return [path for hit in sorted(glob.glob(str(word), recursive=True)) for path in _named(Path(hit))]


def _shown(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def label(classifier: TaskClassifier, paths: Sequence[Path], *, as_json: bool) -> int:
    """Print a line an image; the exit code: 1 where some have no answer, which are named on standard error."""
    bad: list[InputError] = []
    for path, row in answers(classifier, paths, bad):
        probabilities = dict(zip(classifier.class_names, row.tolist(), strict=True))
        best = classifier.class_names[int(row.argmax())]
        if as_json:
            print_json({"image": str(path), "label": best, "probabilities": probabilities})
        else:
            print(f"{visible(path)}\t{visible(best)}\t{100 * probabilities[best]:.1f} %")
    for error in bad:
        complain(visible(error.given))
    if bad:
        complain(f"error: {len(bad)} of {len(paths)} images have no answer")
    return 1 if bad else 0


def answers(classifier: TaskClassifier, paths: Iterable[Path], bad: list[InputError]) -> Iterator[tuple[Path, Tensor]]:
    """Path and probabilities [way] of each image, in order; what cannot be read or answered is added to ``bad``."""
    waiting = iter(paths)
    while batch := list(islice(waiting, BATCH)):
        read = []
        for path in batch:
            try:
                read.append((path, load_image(path, classifier.spec)))
            except InputError as error:
                bad.append(error)
        if not read:
            continue
        probabilities = classifier.predict(torch.stack([image for _, image in read])).probabilities
        for (path, _), row in zip(read, probabilities, strict=True):
            if bool(row.isfinite().all()):
                yield path, row
            else:
                bad.append(InputError(f"{path}: the answer is no number", "finite features", "adapt again"))
