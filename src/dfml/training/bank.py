"""Banks in memory: recovered images of every class, for pseudo-episodes; images with teachers' answers, to distil."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dfml.compute.devices import send
from dfml.episode import Episode
from dfml.errors import InputError, NotFinite
from dfml.nn import as_floats
from dfml.training.answers import NOT_ASKED

BANK_BYTES = 2**30


@dataclass
class _Ring:
    """The images of one class, oldest overwritten first, and the number of the teacher that each came from."""

    images: UInt8[Tensor, "held c h w"]  # on the bank's device
    teachers: Int[Tensor, " held"]


class Bank:
    """A ring buffer per class: the newest ``capacity`` images of each, with the teacher that each came from.

    A ring has the size of what it holds, and all rings together at most 1 GiB (350,000 images of 32 pixels): beyond it
    the class that got no image for the longest time is forgotten. 64 classes of 400 images take 79 MB.

    Args:
        classes: number of zoo classes; images are stored under their row.
        capacity: images kept per class.
        shape: channels, height and width.
        floor: quantise to bytes by flooring, as the published code does, instead of rounding.
    """

    def __init__(self, *, classes: int, capacity: int, shape: tuple[int, int, int], floor: bool = False):
        self.capacity, self.shape, self.floor = capacity, shape, floor
        self.device = torch.device("cpu")
        self.written = torch.zeros(classes, dtype=torch.int64)
        self._rings: dict[int, _Ring] = {}  # the class that waits longest for an image comes first
        self._images = 0

    def __len__(self) -> int:
        return self._images

    def to(self, device: torch.device) -> None:
        """Keep the images there; what is drawn comes from there."""
        self.device = device
        for ring in self._rings.values():
            ring.images = ring.images.to(device)

    @property
    def counts(self) -> Int[Tensor, " classes"]:
        """Images held of each class."""
        return self.written.clamp(max=self.capacity)

    def add(self, images: Float[Tensor, "n c h w"], classes: Int[Tensor, " n"], teacher: int) -> None:
        """Store images in [0, 1] of one teacher; the oldest of a full class make room.

        Raises:
            NotFinite: a pixel is no number; nothing is stored.
        """
        check_finite(images, "recovered images")
        data = (images.detach().clamp(0, 1) * 255).floor().byte() if self.floor else as_bytes(images)
        for c in classes.unique().tolist():
            newest = (classes == c).nonzero()[-self.capacity :, 0]
            self._write(c, data[send(newest, data.device)].to(self.device), teacher)
        while len(self._rings) > 1 and self._images * math.prod(self.shape) > BANK_BYTES:
            self._forget(next(iter(self._rings)))

    def _write(self, c: int, new: UInt8[Tensor, "n c h w"], teacher: int) -> None:
        ring = self._rings.pop(c, None) or _Ring(new[:0], torch.empty(0, dtype=torch.int32))
        room = new[: self.capacity - len(ring.images)]
        if len(room):
            ring.images = torch.cat([ring.images, room])
            ring.teachers = torch.cat([ring.teachers, ring.teachers.new_empty(len(room))])
            self._images += len(room)
        slots = (int(self.written[c]) + torch.arange(len(new))) % self.capacity
        ring.images[send(slots, self.device)], ring.teachers[slots] = new, teacher
        self.written[c] += len(new)
        self._rings[c] = ring

    def _forget(self, c: int) -> None:
        self._images -= len(self._rings.pop(c).images)
        self.written[c] = 0

    def images(self, c: int) -> UInt8[Tensor, "held c h w"]:
        """What is held of a class, by slot."""
        return self._rings[c].images if c in self._rings else self._nothing()

    def _nothing(self) -> UInt8[Tensor, "0 c h w"]:
        return torch.zeros(0, *self.shape, dtype=torch.uint8, device=self.device)

    def teachers(self, c: int) -> Int[Tensor, " held"]:
        """The teachers that these images came from."""
        return self._rings[c].teachers if c in self._rings else torch.zeros(0, dtype=torch.int32)

    def givers(self) -> set[int]:
        """The teachers that some held image came from."""
        return {teacher for ring in self._rings.values() for teacher in ring.teachers.unique().tolist()}

    def read(self, classes: Int[Tensor, " n"], slots: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images as float32 in [0, 1]."""
        shown = [self._rings[c].images[s] for c, s in zip(classes.tolist(), slots.tolist(), strict=True)]
        return as_floats(torch.stack(shown) if shown else self._nothing())

    def ready(self, needed: int) -> list[int]:
        """Classes with at least ``needed`` images."""
        return (self.counts >= needed).nonzero()[:, 0].tolist()

    def episode(self, *, way: int, shot: int, queries: int, generator: torch.Generator) -> Episode:
        """A pseudo-episode: ``way`` random classes, images of a class balanced over the teachers that know it.

        Raises:
            InputError: too few classes with enough images.
        """
        ready = self.ready(shot + queries)
        if len(ready) < way:
            raise InputError(
                f"a bank in which {len(ready)} classes have {shot + queries} images",
                f"{way} such classes for {way}-way {shot}-shot episodes with {queries} queries",
                "recover for longer, from more teachers, or lower the way, shot or queries of training",
            )
        chosen = [ready[i] for i in torch.randperm(len(ready), generator=generator)[:way].tolist()]
        slots = torch.stack([self._balanced(c, shot + queries, generator) for c in chosen])
        classes = torch.tensor(chosen)[:, None].expand_as(slots)
        labels = torch.arange(way)[:, None].expand_as(slots)
        s, q = (slice(None), slice(0, shot)), (slice(None), slice(shot, None))
        return Episode(
            self.read(classes[s].flatten(), slots[s].flatten()),
            send(labels[s].flatten(), self.device),
            self.read(classes[q].flatten(), slots[q].flatten()),
            send(labels[q].flatten(), self.device),
            way,
        )

    def _balanced(self, c: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
        """``count`` slots of a class without replacement, every teacher equally likely to be drawn from."""
        owners = self.teachers(c).long()
        weights = 1.0 / owners.bincount()[owners]
        return torch.multinomial(weights, count, replacement=False, generator=generator)

    def of_teacher(
        self, teacher: int, classes: Int[Tensor, " way"], count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Up to ``count`` images that this teacher gave, spread over ``classes``; labels index ``classes``."""
        images, labels = [], []
        for label, c in enumerate(classes.tolist()):
            slots = (self.teachers(c) == teacher).nonzero()[:, 0]
            slots = slots[torch.randperm(len(slots), generator=generator)[: -(-count // len(classes))]]
            images.append(self.read(torch.full_like(slots, c), slots))
            labels.append(torch.full_like(slots, label))
        return torch.cat(images)[:count], torch.cat(labels)[:count]

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count c h w"]:
        """Images of any class and teacher, with replacement, classes equally likely."""
        held = self.counts.nonzero()[:, 0]
        classes = held[torch.randint(len(held), (count,), generator=generator)]
        slots = (torch.rand(count, generator=generator) * self.counts[classes]).long()
        return self.read(classes, slots)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the classes that have images, in the order in which they will be forgotten."""
        rings = {c: {"images": r.images, "teachers": r.teachers} for c, r in self._rings.items()}
        return {"rings": rings, "written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.written.copy_(state["written"])
        self._rings = {c: _Ring(r["images"].clone(), r["teachers"].clone()) for c, r in state["rings"].items()}
        self._images = sum(len(r.images) for r in self._rings.values())
        self.to(self.device)


class AnswerBank:
    """A ring buffer of images, as bytes, with what teachers answered on them, in half precision.

    Args:
        capacity: images kept, in 1 GiB at most; the oldest make room.
        shape: channels, height and width.
        outputs: numbers that an answer consists of.
    """

    def __init__(self, *, capacity: int, shape: tuple[int, int, int], outputs: int):
        fits = max(1, BANK_BYTES // (math.prod(shape) + 2 * outputs))
        self.notes = [f"The bank keeps {fits:,} answered images, not {capacity:,}: 1 GiB."] if fits < capacity else []
        capacity = min(capacity, fits)
        self.capacity, self.written = capacity, 0
        self.images = torch.zeros(capacity, *shape, dtype=torch.uint8)
        self.answers = torch.zeros(capacity, outputs, dtype=torch.float16)

    def to(self, device: torch.device) -> None:
        """Keep images and answers there."""
        self.images, self.answers = self.images.to(device), self.answers.to(device)

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, images: UInt8[Tensor, "n c h w"], answers: Float[Tensor, "n outputs"]) -> None:
        """Store images with their answers.

        Raises:
            NotFinite: an answer is no number; nothing is stored.
        """
        check_finite(answers, "teachers' answers")
        slots = send((self.written + torch.arange(len(images))) % self.capacity, self.images.device)
        self.images[slots], self.answers[slots] = images.to(self.images), answers.detach().to(self.answers)
        self.written += len(images)

    def widen(self, at: int, by: int) -> None:
        """Room for ``by`` numbers more in every answer, before number ``at``; nobody was asked for them yet.

        A bank that would pass 1 GiB by it keeps all its images.
        """
        room = self.answers.new_full((self.capacity, by), NOT_ASKED)
        self.answers = torch.cat([self.answers[:, :at], room, self.answers[:, at:]], 1)

    def tell(self, slots: slice, columns: slice, answers: Float[Tensor, "n width"]) -> None:
        """Write what was answered about images that are held.

        Raises:
            NotFinite: an answer is no number; nothing is stored.
        """
        check_finite(answers, "teachers' answers")
        self.answers[slots, columns] = answers.detach().to(self.answers)

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count c h w"], Float[Tensor, "count outputs"]]:
        """Images as float32 in [0, 1], with replacement, and their answers."""
        slots = send(torch.randint(len(self), (count,), generator=generator), self.images.device)
        return as_floats(self.images[slots]), self.answers[slots].float()

    def state_dict(self) -> dict[str, Any]:
        """The part that is filled."""
        return {"written": self.written, "images": self.images[: len(self)], "answers": self.answers[: len(self)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.written = state["written"]
        self.images[: len(self)], self.answers[: len(self)] = state["images"], state["answers"]


def check_finite(values: Tensor, what: str) -> None:
    """Raise NotFinite where a value is NaN or infinite."""
    if not bool(values.isfinite().all()):
        raise NotFinite(f"{what} that are NaN or infinite")


def as_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Images in [0, 1], rounded to 256 levels."""
    return (images.detach().clamp(0, 1) * 255).round().to(torch.uint8)
