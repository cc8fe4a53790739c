"""One model of a zoo, looked at: its card, what it can be asked, how sure it is, what it shows of its classes."""

import os
from pathlib import Path
from tempfile import mkdtemp

import torch

from dfml.compute.devices import send
from dfml.functional.drawing import dead_leaves
from dfml.randomness import Rng
from dfml.recovery import DeepInversion, Recovered, Visit
from dfml.runs.plots import contact_sheet, sheet_of
from dfml.zoo.store import EMBEDDED, Zoo
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import logit_answers

IMAGES, CLASSES, DRAWN = 4, 10, 64  # recovered of a class, classes, and drawn images
STEPS = 100  # on the pixels of recovered images


def inspect(zoo: Zoo, model: str, picture: Path | None = None) -> list[str]:
    """Lines about a model for people; draws a contact sheet of what it shows where gradients flow through it.

    Args:
        zoo: of the model.
        model: its id.
        picture: to draw; None is ``plots/MODEL.png`` of the zoo, or of a new temporary folder where the zoo is the
            package's own or cannot be written. The last line names it.

    Raises:
        InputError: no such model, one that cannot be loaded, or a picture that cannot be written.
    """
    teacher = zoo.teacher(model)
    card, rng = teacher.card, Rng(0)
    channels, height, width = card.input_spec.shape
    accuracy = f"{card.accuracy['mean']:.1f} %" if "mean" in card.accuracy else "unknown"
    more = ", ..." if len(card.class_ids) > CLASSES else ""
    lines = [
        f"{card.id}: {card.source}",
        f"{len(card.class_ids)} classes: {', '.join(card.class_names[:CLASSES])}{more}",
        f"images: {channels} x {height} x {width}, mean {list(card.input_spec.mean)}, std {list(card.input_spec.std)}",
        f"accuracy: {accuracy}; licence: {card.licence}; answers: {card.answers}",
        f"can be asked for: {', '.join(zoo.capabilities(model).names)}",
        *card.findings,
    ]
    drawn = dead_leaves(DRAWN, zoo.canvas.channels, zoo.canvas.size, rng.generator("drawn"))
    answers = logit_answers(teacher, send(drawn, teacher.device)).softmax(-1)
    sure, seen = answers.max(-1)
    lines.append(
        f"on {DRAWN} drawn images: {100 * float(sure.mean()):.0f} % sure in the mean, of {len(seen.unique())} classes"
    )
    if DeepInversion().requires() not in zoo.capabilities(model):
        return [*lines, "no picture: nothing can be recovered from it"]
    shown = _recovered(zoo, teacher, rng)
    answers = logit_answers(teacher, shown.images).softmax(-1)
    right = (answers.argmax(-1).cpu() == shown.labels).float().mean()
    lines.append(
        f"on {len(shown.labels)} images recovered from it: {100 * float(right):.0f} % in the wanted class, "
        f"{100 * float(answers.max(-1).values.mean()):.0f} % sure in the mean"
    )
    picture = picture or _picture_of(zoo, model)
    contact_sheet([sheet_of(model, shown, card.class_names)], picture, columns=IMAGES)
    return [*lines, f"picture: {picture}"]


def _picture_of(zoo: Zoo, model: str) -> Path:
    """Beside what it is of, as the pictures of a run are; what came with the package stays as it came."""
    own = zoo.path not in EMBEDDED.values() and os.access(zoo.path, os.W_OK)
    return (zoo.path / "plots" if own else Path(mkdtemp(prefix="dfml-"))) / f"{model}.png"


def _recovered(zoo: Zoo, teacher: Teacher, rng: Rng) -> Recovered:
    """Pixels from natural noise: what needs no other model and no training."""
    recovery = DeepInversion(start="natural", steps=STEPS, flip=False)
    count = len(teacher.card.class_ids)
    classes = torch.arange(count) if count <= CLASSES else torch.arange(CLASSES) * count // CLASSES
    visit = Visit(teacher, classes.repeat(IMAGES))
    return recovery.recover(recovery.init(zoo.canvas, rng), [visit], rng=rng)[0]
