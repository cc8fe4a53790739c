"""Labelled images in memory, as bytes."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dfml.episode import Episode, EpisodeIndices
from dfml.errors import InputError


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 [n, c, h, w], labels int64 [n] into ``class_names``, and a name for messages.

    Raises:
        InputError: shapes or labels that do not fit together.
    """

    name: str
    images: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    class_names: tuple[str, ...]

    def __post_init__(self):
        n = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != torch.uint8 or self.labels.shape != (n,) or n == 0:
            raise InputError(
                f"{self.name}: images {self.images.dtype} {tuple(self.images.shape)}, "
                f"labels {tuple(self.labels.shape)}",
                "at least one image, uint8 [n, channels, height, width], and one label per image",
                "check how the set was written",
            )
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.class_names):
            raise InputError(
                f"{self.name}: labels {int(self.labels.min())}..{int(self.labels.max())}",
                f"0..{len(self.class_names) - 1}, one for each of the {len(self.class_names)} class names",
                "check the labels or the class names",
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def members(self) -> dict[int, Tensor]:
        """For each class the indices of its images, in order."""
        return {c: (self.labels == c).nonzero()[:, 0] for c in range(len(self.class_names))}

    @cached_property
    def hash(self) -> str:
        """sha256 of images, labels and class names."""
        digest = hashlib.sha256("\n".join(self.class_names).encode("utf-8", "backslashreplace"))
        digest.update(self.labels.numpy().tobytes())
        digest.update(self.images.contiguous().numpy().tobytes())
        return "sha256:" + digest.hexdigest()

    def batch(self, indices: Int[Tensor, " k"]) -> Float[Tensor, "k c h w"]:
        """These images as float32 in [0, 1]."""
        return self.images[indices].float() / 255

    def episode(self, indices: EpisodeIndices) -> Episode:
        """The episode behind these indices."""
        return Episode(self.batch(indices.support), indices.support_y, self.batch(indices.query), indices.query_y)

    def classes(self, keep: list[int]) -> "ImageSet":
        """Only these classes, relabelled 0..len(keep)-1 in the order given."""
        parts = [self.members[c] for c in keep]
        labels = torch.arange(len(keep)).repeat_interleave(torch.tensor([len(p) for p in parts]))
        names = tuple(self.class_names[c] for c in keep)
        return ImageSet(self.name, self.images[torch.cat(parts)], labels, names)


@dataclass(frozen=True)
class DataSplits:
    """Three image sets with disjoint classes: meta-train, validation and test."""

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet
