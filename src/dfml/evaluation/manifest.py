"""Frozen lists of evaluation episodes: every learner is judged on the same ones, so differences are paired."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from dfml.data.arrays import whole_array
from dfml.data.image_set import ImageSet
from dfml.episode import EpisodeIndices, sample_indices
from dfml.errors import InputError
from dfml.files import LARGEST, regular
from dfml.randomness import Rng

MANIFEST_SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """Episodes over one image set, as indices into it, class by class. Made by `make_manifest`.

    Args:
        image_hash: `ImageSet.hash` of the set that the indices belong to.
        name: the set's name.
        split: which part of the data the set is, for example ``test``.
        way: classes of an episode.
        shot: support images of a class.
        queries: query images of a class.
        seed: of the sampling.
        support: image indices.
        query: image indices.
    """

    image_hash: str
    name: str
    split: str
    way: int
    shot: int
    queries: int
    seed: int
    support: Int[Tensor, "episodes support"]
    query: Int[Tensor, "episodes query"]

    def __len__(self) -> int:
        return len(self.support)

    @property
    def support_y(self) -> Int[Tensor, " support"]:
        """Labels of every episode's support, 0..way-1."""
        return torch.arange(self.way).repeat_interleave(self.shot)

    @property
    def query_y(self) -> Int[Tensor, " query"]:
        """Labels of every episode's queries, 0..way-1."""
        return torch.arange(self.way).repeat_interleave(self.queries)

    @cached_property
    def episodes(self) -> list[EpisodeIndices]:
        """The episodes one by one."""
        support_y, query_y = self.support_y, self.query_y
        return [EpisodeIndices(s, support_y, q, query_y) for s, q in zip(self.support, self.query, strict=True)]

    @cached_property
    def hash(self) -> str:
        """sha256 over the hash of the images, way, shot and all indices."""
        digest = hashlib.sha256(self._about)
        digest.update(self.support.long().numpy().tobytes())
        digest.update(self.query.long().numpy().tobytes())
        return "sha256:" + digest.hexdigest()

    @cached_property
    def keys(self) -> Int[Tensor, " episodes"]:
        """A number for each episode, of its images in their order: by it, lists of several lengths are compared."""
        rows = torch.cat([self.support, self.query], 1).long().numpy()
        digests = (hashlib.sha256(self._about + row.tobytes()).digest() for row in rows)
        return torch.tensor([int.from_bytes(digest[:8], "little", signed=True) for digest in digests])

    @property
    def _about(self) -> bytes:
        return json.dumps([self.image_hash, self.way, self.shot, self.queries]).encode()

    def first(self, episodes: int) -> "Manifest":
        """The first ``episodes`` of them; the same as making a manifest of that many with the same seed."""
        if episodes >= len(self):
            return self
        return Manifest(**(_fields(self) | {"support": self.support[:episodes], "query": self.query[:episodes]}))

    def check(self, image_set: ImageSet) -> None:
        """Refuse other images than those that the indices belong to.

        Raises:
            InputError: another set.
        """
        if self.image_hash != image_set.hash:
            raise InputError(
                f"a manifest made for {self.name} ({self.image_hash[:18]}...)",
                f"one for {image_set.name} ({image_set.hash[:18]}...)",
                "make the manifest from the image set that is evaluated",
            )

    def save(self, path: Path) -> None:
        """Write a ``.npz`` (int32 indices, JSON text; no pickle)."""
        values = {k: v for k, v in _fields(self).items() if not isinstance(v, Tensor)}
        text = json.dumps({"schema": MANIFEST_SCHEMA, "hash": self.hash} | values)
        with path.open("wb") as file:
            np.savez_compressed(
                file, header=np.array(text), support=self.support.int().numpy(), query=self.query.int().numpy()
            )

    @staticmethod
    def load(path: Path) -> "Manifest":
        """Read what `save` wrote.

        Raises:
            InputError: not such a file, or its indices do not match its hash.
        """
        try:
            with ZipFile(regular(path, LARGEST)) as file:
                values = json.loads(str(whole_array(file, "header")))
                support, query = (torch.from_numpy(whole_array(file, k).astype(np.int64)) for k in ("support", "query"))
            schema, recorded = values.pop("schema"), values.pop("hash")
            manifest = Manifest(**values, support=support, query=query)
        except Exception as error:  # numpy and zipfile raise many kinds on a damaged file
            raise InputError(
                f"{path}: not a manifest ({type(error).__name__}: {error})",
                "a .npz file that Manifest.save wrote",
                "make it again with the seed and number of episodes of the recipe",
            ) from error
        if schema != MANIFEST_SCHEMA or manifest.hash != recorded:
            raise InputError(
                f"{path}: schema {schema}, contents {manifest.hash[:18]}...",
                f"schema {MANIFEST_SCHEMA}, contents {str(recorded)[:18]}... as its header says",
                "make the manifest again; the file was changed or belongs to another version",
            )
        return manifest


def _fields(manifest: Manifest) -> dict:
    """The fields alone, without cached values."""
    return {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}


def make_manifest(
    image_set: ImageSet, *, way: int = 5, shot: int, queries: int = 15, episodes: int, seed: int = 0, split: str
) -> Manifest:
    """Draw episodes. Episode i depends on (seed, split, way, shot, queries, i) alone, so a longer list starts the same.

    Raises:
        InputError: fewer than 2 episodes or no queries; too few classes or images.
    """
    if episodes < 2 or queries < 1:
        raise InputError(
            f"{episodes} episodes with {queries} queries", "at least 2 and 1", "change --episodes or --queries"
        )
    rng = Rng(seed).at("manifest", split, way, shot, queries)
    try:
        drawn = [
            sample_indices(image_set.members, way=way, shots=shot, queries=queries, generator=rng.generator(i))
            for i in range(episodes)
        ]
    except InputError as error:
        raise InputError(f"{image_set.name}, {split}: {error.given}", error.wanted, error.do) from error
    support, query = torch.stack([e.support for e in drawn]), torch.stack([e.query for e in drawn])
    return Manifest(image_set.hash, image_set.name, split, way, shot, queries, seed, support, query)
