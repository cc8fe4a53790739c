"""Accuracy over episodes: mean, interval, the BatchNorm setting, and differences on the same episodes."""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dfml.errors import InputError
from dfml.evaluation.manifest import Manifest


@dataclass(frozen=True)
class Score:
    """Accuracy over the episodes of a manifest, in percent.

    Args:
        mean: over episodes.
        ci95: half the width of the 95 % interval, 1.96 std / sqrt(episodes).
        per_episode: accuracy of each episode.
        seconds: wall time of the evaluation.
        norm: how BatchNorm was set.
        manifest: the episodes.
    """

    mean: float
    ci95: float
    per_episode: Float[Tensor, " episodes"] = field(repr=False)
    seconds: float
    norm: str
    manifest: Manifest | None = field(default=None, repr=False)

    @staticmethod
    def of(per_episode: Float[Tensor, " episodes"], *, seconds: float, norm: str, manifest: Manifest | None) -> "Score":
        """From the episodes' accuracies in percent."""
        mean, ci95 = mean_and_interval(per_episode)
        return Score(mean, ci95, per_episode, seconds, norm, manifest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the episodes."""
        manifest = {} if self.manifest is None else {"manifest": self.manifest.hash}
        return {
            "mean": round(self.mean, 3),
            "ci95": round(self.ci95, 3),
            "episodes": len(self.per_episode),
            "norm": self.norm,
            "seconds": round(self.seconds, 2),
        } | manifest


def mean_and_interval(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """The mean over many episodes, and half the width of its 95 % interval: 1.96 standard errors."""
    values = values.double()
    return float(values.mean()), float(1.96 * values.std() / len(values) ** 0.5)


def paired_difference(a: Score, b: Score) -> tuple[float, float]:
    """Mean of a - b over the episodes that both saw (the shorter list), and half its 95 % interval.

    Raises:
        InputError: the episodes are not the same.
    """
    n = min(len(a.per_episode), len(b.per_episode))
    hashes = [s.manifest.first(n).hash if s.manifest else f"{len(s.per_episode)} unnamed episodes" for s in (a, b)]
    if hashes[0] != hashes[1] or n < 2:
        raise InputError(
            f"scores on different episodes ({hashes[0][:23]} and {hashes[1][:23]})",
            "two scores whose first episodes are the same",
            "evaluate both with one manifest",
        )
    return mean_and_interval(a.per_episode[:n].double() - b.per_episode[:n].double())
