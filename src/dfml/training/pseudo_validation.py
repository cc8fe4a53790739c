"""Progress without real images: teachers held out with all their classes, and episodes of what they show."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.errors import InputError
from dfml.learners import AbstractLearner, Metrics
from dfml.randomness import Rng
from dfml.recovery import Recovered, Visit
from dfml.training.bank import Bank
from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.store import Zoo

T = TypeVar("T")
VISITS = 3  # recoveries from each held-out teacher
WAY, SHOT, QUERIES = 5, 1, 10  # of an episode, at most
HELD_OUT = 20  # classes of a teacher, at most: one of more goes on to train with the others


class PseudoValidation:
    """Held-out teachers, their classes, and images recovered from them once.

    A teacher of many classes is held out with some of them, and trains with the others.

    Args:
        zoo: where the held-out teachers are drawn.
        count: how many; 0 for none.
        images_per_class: recovered images per class and visit.
        needs: what a teacher must give for images to be recovered from it.
        rng: decides which.

    Raises:
        InputError: nothing would be left to train on.
    """

    def __init__(self, zoo: Zoo, *, count: int, images_per_class: int, needs: Capability, rng: Rng):
        order = torch.randperm(len(zoo.ids), generator=rng.generator("held out")).tolist()
        self.zoo, self.images_per_class, self.needs = zoo, images_per_class, needs
        able = {i for i in zoo.ids if needs in zoo.capabilities(i)}
        self.ids = sorted([zoo.ids[i] for i in order if zoo.ids[i] in able][:count])
        known = {c for i in self.ids for c in _some(zoo.entry(i).class_ids, HELD_OUT, rng.generator("classes", i))}
        self.class_ids = tuple(sorted(known))
        small = {i for i in self.ids if len(zoo.entry(i).class_ids) <= HELD_OUT}
        self.training_ids = [i for i in zoo.ids if i not in small and not known.issuperset(zoo.entry(i).class_ids)]
        self.visited_ids = [i for i in self.training_ids if i in able]
        if not self.visited_ids:
            raise InputError(
                f"{count} validation teachers of a zoo of {len(zoo.ids)}",
                "at least one teacher with classes that the validation teachers do not know",
                "set --validation-teachers 0, or use a larger zoo",
            )
        self.bank = Bank(
            classes=max(1, len(self.class_ids)), capacity=VISITS * images_per_class, shape=zoo.canvas.shape
        )

    @property
    def way(self) -> int:
        """Classes of an episode."""
        return min(WAY, len(self.class_ids))

    @property
    def queries(self) -> int:
        """Query images of a class in an episode: fewer where few images are recovered of a class."""
        return min(QUERIES, VISITS * self.images_per_class - SHOT)

    def grow(self, zoo: Zoo, ids: Sequence[str]) -> list[str]:
        """Teachers that joined the zoo train with the others: those that know a class which is not held out.

        Returns:
            These.
        """
        self.zoo = zoo
        joined = [i for i in ids if not set(self.class_ids).issuperset(zoo.entry(i).class_ids)]
        self.training_ids = [*self.training_ids, *joined]
        self.visited_ids = [*self.visited_ids, *(i for i in joined if self.needs in zoo.capabilities(i))]
        return joined

    @property
    def images_to_come(self) -> int:
        """That will be recovered from each held-out teacher; none when they are at hand."""
        return 0 if len(self.bank) else VISITS * self.images_per_class * len(self.class_ids)

    def training_labels(self, card: ModelCard, limit: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """A teacher's outputs whose classes training may use, ``images_per_class`` of each.

        Args:
            card: the teacher's.
            limit: classes; of a teacher that knows more, so many are drawn.
            generator: draws them.
        """
        known = set(self.class_ids)
        kept = [i for i, c in enumerate(card.class_ids) if c not in known]
        return torch.tensor(_some(kept, limit, generator)).repeat(self.images_per_class)

    def accuracy(
        self,
        learner: AbstractLearner,
        recover: Callable[..., list[Recovered]],
        *,
        episodes: int,
        rng: Rng,
    ) -> Metrics:
        """``pseudo_val``: mean 1-shot accuracy in percent over fixed episodes of the held-out classes, beside chance.

        ``recover`` is `AbstractRecovery.recover` with its state; it is called when there are no images yet.
        """
        if not self.ids:
            return {}
        if not len(self.bank):
            self._fill(recover, rng)
        correct = []
        for index in range(episodes):
            episode = self.bank.episode(
                way=self.way, shot=SHOT, queries=self.queries, generator=rng.generator("episode", index)
            )
            answer = learner.adapt(episode.support_x, episode.support_y)(episode.query_x).argmax(-1)
            correct.append((answer == episode.query_y).float().mean())
        return {"pseudo_val": 100 * float(torch.stack(correct).mean()), "pseudo_val_chance": 100 / self.way}

    def _fill(self, recover: Callable[..., list[Recovered]], rng: Rng) -> None:
        for number, name in enumerate(self.ids):
            teacher = self.zoo.teacher(name)
            row_of = {c: row for row, c in enumerate(self.class_ids)}
            rows = torch.tensor([row_of.get(c, -1) for c in teacher.card.class_ids])
            labels = (rows >= 0).nonzero()[:, 0].repeat(self.images_per_class)
            for visit in range(VISITS):
                shown = recover([Visit(teacher, labels)], rng=rng.at("fill", name, visit), learn=False)[0]
                self.bank.add(shown.images, rows[shown.labels], number)

    def to(self, device: torch.device) -> None:
        """Keep the images there."""
        self.bank.to(device)

    def state_dict(self) -> dict[str, Any]:
        """The images; which teachers are held out follows from the seed."""
        return self.bank.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.bank.load_state_dict(state)


def _some(items: Sequence[T], limit: int, generator: torch.Generator) -> list[T]:
    """All of them, or so many drawn, in their order."""
    if len(items) <= limit:
        return list(items)
    return [items[i] for i in torch.randperm(len(items), generator=generator)[:limit].sort().values.tolist()]
