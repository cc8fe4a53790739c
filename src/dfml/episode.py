"""An episode: a small classification task with a support set to learn from and a query set to be judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.errors import InputError


@dataclass(frozen=True)
class Episode:
    """Images float32 in [0, 1], NCHW; labels 0..way-1. Shots may differ between classes.

    ``way`` is read off the labels unless given; on a GPU reading waits for all work before it. In the place of labels
    there may be probabilities, as a teacher gives them, for learners to train on (`AbstractLearner.meta_loss`).
    """

    support_x: Float[Tensor, "support c h w"]
    support_y: Int[Tensor, " support"] | Float[Tensor, "support way"]
    query_x: Float[Tensor, "query c h w"]
    query_y: Int[Tensor, " query"] | Float[Tensor, "query way"]
    way: int = 0

    def __post_init__(self):
        if not self.way:
            soft = self.support_y.is_floating_point()
            object.__setattr__(self, "way", self.support_y.shape[1] if soft else int(self.support_y.max()) + 1)


def can_stack(episodes: Sequence[Episode]) -> bool:
    """Whether these episodes have as many classes, support images and queries, and labels of one kind."""
    return len({(e.way, e.support_x.shape, e.query_x.shape, e.support_y.shape, e.query_y.shape) for e in episodes}) == 1


def stack(
    episodes: Sequence[Episode],
) -> tuple[
    Float[Tensor, "e support c h w"],
    Int[Tensor, "e support"] | Float[Tensor, "e support way"],
    Float[Tensor, "e query c h w"],
    Int[Tensor, "e query"] | Float[Tensor, "e query way"],
]:
    """Support images and labels, query images and labels of several episodes (`can_stack`)."""
    names = ("support_x", "support_y", "query_x", "query_y")
    support_x, support_y, query_x, query_y = (torch.stack([getattr(e, name) for e in episodes]) for name in names)
    return support_x, support_y, query_x, query_y


@dataclass(frozen=True)
class EpisodeIndices:
    """An episode as indices into an image set: what a manifest freezes. Labels are 0..way-1, class by class."""

    support: Int[Tensor, " support"]
    support_y: Int[Tensor, " support"]
    query: Int[Tensor, " query"]
    query_y: Int[Tensor, " query"]


def sample_indices(
    members: Mapping[int, Int[Tensor, " n"]],
    *,
    way: int,
    shots: int | Sequence[int],
    queries: int,
    generator: torch.Generator,
) -> EpisodeIndices:
    """Draw ``way`` classes, then ``shots`` support and ``queries`` query images of each, without replacement.

    Args:
        members: for each class the indices of its images.
        way: the number of classes.
        shots: support images per class, one number or one per drawn class.
        queries: query images per class.
        generator: a CPU generator.

    Raises:
        InputError: too few classes, or no ``way`` classes with enough images.
    """
    per_class = [shots] * way if isinstance(shots, int) else list(shots)
    if way < 2 or len(per_class) != way or min(per_class) < 1 or queries < 0:
        raise InputError(
            f"way {way} with shots {shots} and {queries} queries",
            "at least 2 classes, one shot count or one per class, each at least 1",
            "change --way, --shot or --queries",
        )
    needed = max(per_class) + queries
    ready = sorted(c for c, images in members.items() if len(images) >= needed)
    if len(ready) < way:
        raise InputError(
            f"{len(members)} classes, of which {len(ready)} have at least {needed} images",
            f"{way} classes with {needed} images each ({max(per_class)} support + {queries} query)",
            "give more images per class, or lower --way, --shots or --queries",
        )
    chosen = [ready[i] for i in torch.randperm(len(ready), generator=generator)[:way].tolist()]
    support, query = [], []
    for c, k in zip(chosen, per_class, strict=True):
        images = members[c][torch.randperm(len(members[c]), generator=generator)[: k + queries]]
        support.append(images[:k])
        query.append(images[k:])
    labels = torch.arange(way)
    return EpisodeIndices(
        torch.cat(support),
        labels.repeat_interleave(torch.tensor(per_class)),
        torch.cat(query),
        labels.repeat_interleave(queries),
    )
