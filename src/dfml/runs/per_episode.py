"""A run's accuracy in every episode, beside its ``result.json``, so that differences to other runs can be paired."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.evaluation.score import Score, mean_and_interval
from dfml.files import LARGEST, regular, write_atomic

PER_EPISODE = "per_episode.npz"


@dataclass(frozen=True)
class PerEpisode:
    """Accuracies on a list of episodes.

    Args:
        keys: which episodes (`Manifest.keys`).
        accuracies: in percent.
    """

    keys: Int[Tensor, " episodes"]
    accuracies: Float[Tensor, " episodes"]

    def same_episodes(self, other: "PerEpisode") -> bool:
        """Whether the shorter list is the beginning of the other."""
        n = min(len(self.keys), len(other.keys))
        return torch.equal(self.keys[:n], other.keys[:n])

    def minus(self, other: "PerEpisode") -> tuple[float, float] | None:
        """The mean difference over the episodes that both saw, and half its 95 % interval; None where they differ."""
        n = min(len(self.keys), len(other.keys))
        if n < 2 or not self.same_episodes(other):
            return None
        return mean_and_interval(self.accuracies[:n] - other.accuracies[:n])

    @staticmethod
    def mean(each: Sequence["PerEpisode"]) -> "PerEpisode | None":
        """Of several networks, episode by episode, over what all of them saw; None where that is not the same."""
        if not each or not all(each[0].same_episodes(other) for other in each):
            return None
        n = min(len(one.keys) for one in each)
        return PerEpisode(each[0].keys[:n], torch.stack([one.accuracies[:n] for one in each]).mean(0))


def write_per_episode(run: Path, scores: Mapping[int, Mapping[str, Score]]) -> str:
    """Write ``per_episode.npz``; its sha256, which ``result.json`` names, so that one is not read with another's.

    Args:
        run: the run folder.
        scores: by shot and kind.

    Raises:
        InputError: it cannot be written.
    """
    arrays = {}
    for shot, kinds in scores.items():
        for kind, score in kinds.items():
            if score.manifest is not None:
                arrays[f"{shot} {kind} keys"] = score.manifest.keys.numpy()
                arrays[f"{shot} {kind} accuracies"] = score.per_episode.float().numpy()
    np.savez_compressed(file := BytesIO(), **arrays)  # type: ignore[arg-type]
    write_atomic(run / PER_EPISODE, file.getvalue())
    return hashlib.sha256(file.getvalue()).hexdigest()


def read_per_episode(run: Path, sha256: str | None) -> dict[tuple[int, str], PerEpisode]:
    """By shot and kind; empty where there is none, or with a warning where it is another than the result's."""
    path = run / PER_EPISODE
    if sha256 is None or not path.is_file():
        return {}
    content = regular(path, LARGEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        told = f"{path}: not what result.json names: an evaluation was stopped, or it was changed; nothing is paired"
        warnings.warn(told, stacklevel=2)
        return {}
    with np.load(BytesIO(content), allow_pickle=False) as file:
        arrays = {tuple(name.split()): torch.from_numpy(file[name]) for name in file.files}
    return {
        (int(shot), kind): PerEpisode(keys, arrays[shot, kind, "accuracies"].double())
        for (shot, kind, what), keys in arrays.items()
        if what == "keys"
    }
