"""A bank whose pixels are learned: a few images of every class, moved by Adam from one step to the next."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.bounds import StepSize
from dfml.episode import Episode
from dfml.training.bank import BANK_BYTES
from dfml.zoo.store import Zoo

COPIES = 6  # of a pixel, in floats: itself, Adam's two moments, and what an unsound step is taken back to


class PixelBank:
    """Images in [0, 1] of some classes, each class with Adam's moments of its own.

    A class that a step leaves alone does not move, whatever its momentum. Episodes are drawn from classes that have
    been moved at least once: the others are noise.

    Args:
        images: to start from, [classes, images of a class, channels, height, width].
        rows: of the classes among the zoo's.
        lr: Adam's step size, in pixel values.
    """

    def __init__(self, images: Float[Tensor, "classes n c h w"], rows: Sequence[int], *, lr: StepSize):
        self.pixels = nn.ParameterList([nn.Parameter(each.clone()) for each in images])
        self.place_of = {row: place for place, row in enumerate(rows)}
        self.visits = torch.zeros(len(rows), dtype=torch.int64)
        self.optimiser = torch.optim.Adam(self.pixels.parameters(), lr=lr, foreach=True)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.pixels[0].device

    def to(self, device: torch.device) -> None:
        """Keep the images there, as the same parameters."""
        self.pixels.to(device)

    @property
    def images_per_class(self) -> int:
        """Images of a class."""
        return len(self.pixels[0])

    def known(self, rows: Int[Tensor, " outputs"]) -> list[tuple[int, int]]:
        """Which of a teacher's outputs are learned here, each with its place, given the rows of all its outputs."""
        return [(output, self.place_of[row]) for output, row in enumerate(rows.tolist()) if row in self.place_of]

    def images(self, places: Sequence[int]) -> Float[Tensor, "classes n c h w"]:
        """Of these classes; differentiable."""
        return torch.stack([self.pixels[place] for place in places])

    def ready(self, needed: int) -> list[int]:
        """The classes, by place, that were moved at least once and have ``needed`` images."""
        return self.visits.nonzero()[:, 0].tolist() if self.images_per_class >= needed else []

    @torch.no_grad()
    def episode(self, *, way: int, shot: int, queries: int, generator: torch.Generator) -> Episode:
        """A pseudo-episode of random classes that are `ready`."""
        return self.episode_of(self.ready(shot + queries), way=way, shot=shot, queries=queries, generator=generator)

    def episode_of(
        self, places: Sequence[int], *, way: int, shot: int, queries: int, generator: torch.Generator
    ) -> Episode:
        """A pseudo-episode of ``way`` random ones of these classes; differentiable in the pixels."""
        chosen = [places[i] for i in torch.randperm(len(places), generator=generator)[:way].tolist()]
        shown = [self._drawn(place, shot + queries, generator) for place in chosen]
        labels = torch.arange(way, device=self.device)
        return Episode(
            torch.cat([images[:shot] for images in shown]),
            labels.repeat_interleave(shot),
            torch.cat([images[shot:] for images in shown]),
            labels.repeat_interleave(queries),
            way,
        )

    def _drawn(self, place: int, count: int, generator: torch.Generator) -> Tensor:
        order = torch.randperm(self.images_per_class, generator=generator)[:count]
        return self.pixels[place][order.to(self.device)]

    @torch.no_grad()
    def follow(self, gradients: dict[int, Float[Tensor, "n c h w"]]) -> None:
        """A step of Adam on the images of these classes, by place; pixels stay in [0, 1]."""
        for place, gradient in gradients.items():
            self.pixels[place].grad = gradient
            self.visits[place] += 1
        self.optimiser.step()
        self.optimiser.zero_grad()
        for place in gradients:
            self.pixels[place].clamp_(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """Pixels, moments, and how often each class was moved."""
        pixels = [p.detach() for p in self.pixels]
        return {"pixels": pixels, "visits": self.visits, "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        with torch.no_grad():
            for mine, given in zip(self.pixels, state["pixels"], strict=True):
                mine.copy_(given)
        self.visits.copy_(state["visits"])
        self.optimiser.load_state_dict(state["optimiser"])


def learned_classes(
    zoo: Zoo,
    ids: Sequence[str],
    *,
    but: Sequence[str],
    at_most: int,
    images_per_class: int,
    together: int,
    generator: torch.Generator,
) -> list[int]:
    """Rows of the classes whose images are learned: those of these teachers, or as many as fit into 1 GiB.

    Where they are too many, teachers are gone through in random order, ``together`` classes of each at a time, so that
    what is learned are classes that one teacher knows.

    Args:
        zoo: of the teachers.
        ids: of the teachers that may be visited.
        but: ids of classes that are left out.
        at_most: classes.
        images_per_class: that are learned.
        together: classes of a teacher in one visit.
        generator: draws them.
    """
    room = min(at_most, max(1, BANK_BYTES // (COPIES * 4 * images_per_class * math.prod(zoo.canvas.shape))))
    held_out, row_of = set(but), {c: row for row, c in enumerate(zoo.class_ids)}
    chosen: dict[int, None] = {}
    for name in _in_rounds(zoo, ids, together, generator):
        if name not in held_out:
            chosen[row_of[name]] = None
        if len(chosen) == room:
            break
    return sorted(chosen)


def _in_rounds(zoo: Zoo, ids: Sequence[str], together: int, generator: torch.Generator) -> Iterator[str]:
    """Ids of classes: so many of each teacher, teachers shuffled; then so many more of each that has more."""
    order = [ids[i] for i in torch.randperm(len(ids), generator=generator).tolist()]
    first = 0
    while order:
        for name in order:
            yield from zoo.entry(name).class_ids[first : first + together]
        first += together
        order = [name for name in order if len(zoo.entry(name).class_ids) > first]
