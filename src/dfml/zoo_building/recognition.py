"""What the teachers of a zoo make of the images that others recover for the same classes; no data is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from dfml.recovery.base import Visit, above_chance
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

Progress = Callable[[int, int], None]
"""Called with teachers done and to do."""

WARM_UP_IMAGES, IMAGES = 4, 8  # of a class: while the generator learns, and to be judged
CLASSES = 16  # of a teacher that knows more: the audit of a thousand classes costs no more
PARTNERS = 10  # whose images of one class a judge is shown: more say the same again
TOGETHER = 4  # teachers a meta-step


@dataclass(frozen=True)
class Gift:
    """Images that one teacher gave.

    Args:
        images: bytes, on the canvas of the zoo.
        labels: output indices of the teacher that were asked for.
        confidence: that the teacher itself has in them, mean over the images, 0 (chance) to 1.
    """

    images: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    confidence: float


def recover_all(
    zoo: Zoo, canvas: InputSpec, ids: Sequence[str], *, rng: Rng, progress: Progress | None = None
) -> dict[str, Gift]:
    """A few images of every class of each teacher: one generator learns from all of them, and then gives."""
    # Mirrored images would be another class to some teachers (characters), and the audit cannot know to which.
    recovery = MetaGenerator(adversarial_weight=0.0, flip=False)
    state = recovery.init(canvas, rng.at("generator"))
    order = [ids[i] for i in torch.randperm(len(ids), generator=rng.generator("order"))]
    gifts: dict[str, Gift] = {}
    claimants = claims(zoo)
    for reading in (False, True):
        for start in range(0, len(order), TOGETHER):
            some = order[start : start + TOGETHER]
            visits = [
                Visit(t, _places(t, claimants).repeat(IMAGES if reading else WARM_UP_IMAGES))
                for t in map(zoo.teacher, some)
            ]
            found = recovery.recover(state, visits, rng=rng.at(int(reading), start), learn=not reading)
            if reading:
                gifts |= {
                    i: _gift(visit.teacher, r.images, r.labels) for i, visit, r in zip(some, visits, found, strict=True)
                }
            if progress:
                progress(len(order) * reading + start + len(some), 3 * len(zoo))
    return gifts


def _places(teacher: Teacher, claimants: dict[str, list[str]]) -> Int[Tensor, " places"]:
    """Outputs of the teacher that are worth a look: those that others claim too come first."""
    of = teacher.card.class_ids
    return torch.tensor(sorted(range(len(of)), key=lambda place: -len(claimants[of[place]]))[:CLASSES])


def _gift(teacher: Teacher, images: Tensor, labels: Tensor) -> Gift:
    images = (images.clamp(0, 1) * 255).round().byte().cpu()
    sure = teacher.answers(images, "probabilities").cpu()[torch.arange(len(labels)), labels].mean()
    return Gift(images, labels.cpu(), above_chance(float(sure), len(teacher.card.class_ids)))


def claims(zoo: Zoo) -> dict[str, list[str]]:
    """Class id -> the models that claim it."""
    found: dict[str, list[str]] = {c: [] for c in zoo.class_ids}
    for model in zoo.ids:
        for class_id in zoo.entry(model).class_ids:
            found[class_id].append(model)
    return found


@dataclass(frozen=True)
class Looks:
    """Every look of one teacher, the judge, at the images that another, the giver, recovered for a class of both.

    Args:
        givers: number of the giver in the zoo.
        judges: number of the judge.
        classes: number of the class in the zoo.
        places: output index of the class in the judge.
        shares: of the images, those that the judge puts in the claimed class, of all its classes.
        sureness: largest probability of the judge's answer, mean over images.
        answers: of each look, the share of every output of the judge.
    """

    givers: Int[Tensor, " looks"]
    judges: Int[Tensor, " looks"]
    classes: Int[Tensor, " looks"]
    places: Int[Tensor, " looks"]
    shares: Float[Tensor, " looks"]
    sureness: Float[Tensor, " looks"]
    answers: list[Float[Tensor, " outputs"]]

    def of(self, judge: int, givers: Bool[Tensor, " models"]) -> list[int]:
        """The looks of one judge at images of these givers."""
        return torch.nonzero((self.judges == judge) & givers[self.givers]).flatten().tolist()


def shown_to(
    zoo: Zoo, judge: str, gifts: dict[str, Gift], claimants: dict[str, list[str]], rng: Rng
) -> list[tuple[str, int, Tensor]]:
    """What a judge is asked about: giver, the output that the judge claims for the class, and the images."""
    shown = []
    for place, class_id in enumerate(zoo.entry(judge).class_ids):
        givers = [g for g in claimants[class_id] if g != judge and g in gifts]
        drawn = torch.randperm(len(givers), generator=rng.generator(judge, place))[:PARTNERS].tolist()
        for giver in (givers[i] for i in sorted(drawn)):
            given = zoo.entry(giver).class_ids.index(class_id)
            images = gifts[giver].images[gifts[giver].labels == given]
            if len(images):
                shown.append((giver, place, images))
    return shown


def look(zoo: Zoo, gifts: dict[str, Gift], *, rng: Rng, progress: Progress | None = None) -> Looks:
    """Every teacher judges what others gave for its classes."""
    rows: list[tuple[int, int, int, int, float, float]] = []
    answers: list[Tensor] = []
    claimants = claims(zoo)
    for done, judge in enumerate(zoo.ids):
        shown = shown_to(zoo, judge, gifts, claimants, rng)
        if shown:
            teacher = zoo.teacher(judge)
            said = ask(teacher, torch.cat([images for *_, images in shown]))
            row_of = zoo.rows(judge).tolist()
            for (giver, place, images), part in zip(
                shown, said.split([len(images) for *_, images in shown]), strict=True
            ):
                chosen = part.argmax(-1)
                share, sure = float((chosen == place).float().mean()), float(part.amax(-1).mean())
                rows.append((zoo.number_of[giver], zoo.number_of[judge], row_of[place], place, share, sure))
                answers.append(torch.bincount(chosen, minlength=part.shape[1]) / len(images))
        if progress:
            progress(2 * len(zoo) + done + 1, 3 * len(zoo))
    columns = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 6).T
    givers, judges, classes, places = columns[:4].long()
    return Looks(givers, judges, classes, places, columns[4].float(), columns[5].float(), answers)


def ask(teacher: Teacher, images: Tensor) -> Float[Tensor, "n classes"]:
    """Probabilities, on the CPU; of a teacher that names the class alone, ones and zeros."""
    if Capability.PROBABILITIES in teacher.capabilities:
        return teacher.answers(images, "probabilities").float().cpu()
    labels = teacher.answers(images, "labels").cpu()
    return torch.nn.functional.one_hot(labels, len(teacher.card.class_ids)).float()
