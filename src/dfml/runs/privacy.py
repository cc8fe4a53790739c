"""What a run gives away of the images that its models were trained on: for an owner of these images.

Attacks on membership: an image of a class that the zoo knows is shown, and a score says whether models were trained on
it. Those that were are compared with others of the same classes that no model saw.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfml.data.image_set import ImageSet
from dfml.errors import InputError
from dfml.functional.drawing import dead_leaves
from dfml.functional.membership import area_under_curve, found_at, standard
from dfml.learners.base import AbstractLearner, embed
from dfml.methods.random import Random
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.runs.run import Run
from dfml.zoo import Zoo
from dfml.zoo.views import local, logit_answers

TASKS = 40  # teachers whose classes are looked at, each a task
SHOT = 5  # images a class that an attacker has of their own

Score = Callable[["Task"], tuple[Tensor, Tensor] | None]


@dataclass(frozen=True)
class Attack:
    """How far an attack comes, in the mean of the tasks.

    Args:
        name: what is attacked, and by what.
        control: nothing can be known here: it says what 0.5 looks like on these images.
        area: under the curve of true over false members; 0.5 tells nothing.
        ci95: half the width of its 95 % interval over tasks.
        found: share of members found where one in a hundred others is taken for one, all tasks together.
        tasks: so many.
    """

    name: str
    control: bool
    area: float
    ci95: float
    found: float
    tasks: int

    @property
    def tells(self) -> bool:
        """Whether members score higher by more than chance."""
        return self.area - self.ci95 > 0.5


@dataclass(frozen=True)
class Task:
    """A teacher's classes: images it was trained on, as many others, and an attacker's own, labelled by its outputs."""

    teacher: str
    members: Float[Tensor, "n c h w"]
    others: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    support: Float[Tensor, "s c h w"]
    support_labels: Int[Tensor, " s"]


def audit_privacy(
    run: Run, images: ImageSet, *, held_out: float = 0.2, per_class: int = 20, seed: int = 0
) -> Iterator[Attack]:
    """Attack the models, the learner and the recovered images of a run.

    Args:
        run: the run.
        images: of the classes that its models know, by the same names; of each class the last ``held_out`` part was not
            trained on (`dfml zoo build` holds a fifth out).
        held_out: that share.
        per_class: members of a class, and as many others.
        seed: of the sample.

    Raises:
        InputError: no teacher all of whose classes are there, with enough images.
    """
    tasks = _tasks(run.zoo, images, held_out, per_class, Rng(seed))
    recovered = [shown.images.cpu() for task in tasks for shown in run.recovered(task.teacher)]
    untrained = Random().init(run.zoo, Rng(seed)).learner
    canvas = run.zoo.canvas
    yield _attack("models, by their answers", lambda task: _by_answers(run.zoo, task), tasks)
    yield _attack("learner, adapted to the classes", lambda task: _by_adapting(run.learner, task), tasks)
    if recovered:
        shown, networks = torch.cat(recovered), run.learner.networks
        yield _attack("recovered images, nearest pixels", _nearest(pixels, shown), tasks)
        yield _attack("recovered images, nearest features", _nearest(lambda x: features(networks, x), shown), tasks)
        drawn = dead_leaves(len(shown), canvas.channels, canvas.size, Rng(seed).generator("drawn"))
        yield _attack("drawn images, nearest pixels", _nearest(pixels, drawn), tasks, control=True)
    yield _attack(
        "untrained network, adapted to the classes", lambda task: _by_adapting(untrained, task), tasks, control=True
    )


def _tasks(zoo: Zoo, images: ImageSet, held_out: float, per_class: int, rng: Rng) -> list[Task]:
    if not 0 < held_out < 1:
        raise InputError(
            f"held out {held_out}", "a share between 0 and 1", "give the share that no model was trained on"
        )
    number = {name: c for c, name in enumerate(images.class_names)}
    tasks: list[Task] = []
    for teacher in zoo.ids:
        names = zoo.cards[teacher].class_names
        if len(tasks) == TASKS or any(name not in number for name in names):
            continue
        parts: dict[str, list[Tensor]] = {"members": [], "others": [], "support": []}
        for name in names:
            own = images.members[number[name]]
            cut = int(len(own) * (1 - held_out))
            generator = rng.generator("sample", name)
            seen, unseen = (part[torch.randperm(len(part), generator=generator)] for part in (own[:cut], own[cut:]))
            parts["members"].append(seen[:per_class])
            parts["support"].append(unseen[:SHOT])
            parts["others"].append(unseen[SHOT:][:per_class])
        if min(len(each) for kind in ("members", "others") for each in parts[kind]) < per_class:
            continue
        fitted = {kind: zoo.canvas.fit(images.batch(torch.cat(indices))) for kind, indices in parts.items()}
        labels = torch.arange(len(names))
        tasks.append(
            Task(
                teacher,
                labels=labels.repeat_interleave(per_class),
                support_labels=labels.repeat_interleave(SHOT),
                **fitted,
            )
        )
    if not tasks:
        raise InputError(
            f"{images.name}: no model of {zoo.name} with {per_class} images of each class for training there, "
            f"and {per_class + SHOT} others",
            "the images that the models were trained on, in folders of their class names",
            "check the names (`dfml zoo list`), or lower --per-class",
        )
    return tasks


def _attack(name: str, score: Score, tasks: list[Task], *, control: bool = False) -> Attack:
    areas: list[float] = []
    pooled: list[tuple[Tensor, Tensor]] = []
    for task in tasks:
        if (scores := score(task)) is not None:
            areas.append(area_under_curve(*scores))
            pooled.append(standard(*scores))
    members, others = (torch.cat(each) for each in zip(*pooled, strict=True))
    ci95 = 1.96 * stdev(areas) / len(areas) ** 0.5 if len(areas) > 1 else 0.5
    return Attack(name, control, fmean(areas), ci95, found_at(members, others), len(areas))


def _by_answers(zoo: Zoo, task: Task) -> tuple[Tensor, Tensor] | None:
    """Log-probability of the true class; a network is surest of what it was trained on (Yeom et al., CSF 2018)."""
    if local(teacher := zoo.teacher(task.teacher)) is None:
        return None  # asking may cost money
    said = [logit_answers(teacher, shown).float().cpu() for shown in (task.members, task.others)]
    members, others = (logits.log_softmax(-1)[torch.arange(len(logits)), task.labels] for logits in said)
    return members, others


def _by_adapting(learner: AbstractLearner, task: Task) -> tuple[Tensor, Tensor]:
    """The same of a learner that is adapted to the classes with an attacker's own images."""
    predictor = learner.adapt(task.support, task.support_labels)
    with torch.no_grad():
        said = [predictor.probabilities(shown).float() for shown in (task.members, task.others)]
    members, others = (chances[torch.arange(len(chances)), task.labels].clamp(min=1e-12).log() for chances in said)
    return members, others


def _nearest(seen: Callable[[Tensor], Float[Tensor, "n d"]], shown: Tensor) -> Score:
    """The cosine with the nearest of some images: what was memorised is nearer than what was not."""
    known = F.normalize(seen(shown), dim=-1)

    def score(task: Task) -> tuple[Tensor, Tensor]:
        members, others = (
            (F.normalize(seen(images), dim=-1) @ known.T).amax(-1) for images in (task.members, task.others)
        )
        return members, others

    return score


def pixels(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Around each image's own mean."""
    flat = images.flatten(1)
    return flat - flat.mean(1, keepdim=True)


def features(networks: list[Encoder], images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """What a learner compares images by."""
    with torch.no_grad():
        return embed(networks, images).float()
