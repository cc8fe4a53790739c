"""Heads on frozen features: no training. The nearest centroid is the yardstick of every table."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.episode import Episode
from dfml.functional.heads import (
    centroid_coefficients,
    logistic_coefficients,
    ridge_coefficients,
    self_trained_ridge,
)
from dfml.learners.base import AbstractLearner, Predictor, embed, join, percent_right
from dfml.nn import Encoder, Norm, network_name, networks_of, write_norm

HeadName = Literal["centroid", "ridge", "logistic"]
HEADS = {
    "centroid": (centroid_coefficients, 10.0),
    "ridge": (ridge_coefficients, 7.0),
    "logistic": (logistic_coefficients, 1.0),
}
"""With the scale of the answers where probabilities are wanted; accuracy does not depend on it."""


class FrozenLearner(AbstractLearner):
    """A linear head on the features of frozen networks.

    The features of each network's last block are flattened, L2-normalised if ``normalise``, and concatenated
    over networks.

    Args:
        encoders: one network or several.
        head: ``centroid``, class means compared by squared Euclidean distance; or ``ridge``, regression of the labels,
            about as good at one image of a class and better at several; or ``logistic`` regression.
        normalise: L2-normalise each network's features.
    """

    kind = "centroid"
    norm = "running"

    def __init__(
        self,
        encoders: Encoder | Sequence[Encoder],
        *,
        head: HeadName = "centroid",
        normalise: bool = True,
    ):
        super().__init__()
        self.encoders = nn.ModuleList([encoders] if isinstance(encoders, Encoder) else encoders)
        self.head, self.normalise = head, normalise

    @property
    def networks(self) -> list[Encoder]:
        """See `AbstractLearner.networks`."""
        return list(self.encoders)  # type: ignore[arg-type]

    @property
    def options(self) -> dict[str, Any]:
        """See `AbstractLearner.options`."""
        return {"head": self.head, "normalise": self.normalise}

    @property
    def frozen_encoders(self) -> list[Encoder]:
        """The encoders: adapting trains none of them."""
        return self.networks

    def _adapt(self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], *, norm: Norm) -> Predictor:
        """The head of the support. The predictor has copies of the encoders: later training leaves it alone."""
        encoders = self._copies()
        with torch.no_grad():
            shown = [write_norm(e, norm, e.spec.fit(support_x)) for e in encoders]
            features = join(shown, normalise=self.normalise)
            weight, bias = self.linear(features, support_y)
        return Predictor(encoders, weight, bias, normalise=self.normalise)

    def coefficients(self, kernel: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See `AbstractLearner.coefficients`."""
        return HEADS[self.head][0](kernel, labels)

    def linear(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias, scaled for probabilities; squared distances are averaged over networks."""
        coefficients, bias = self.coefficients(features @ features.T, labels)
        scale = HEADS[self.head][1] / (len(self.encoders) if self.head == "centroid" else 1)
        return scale * coefficients.T @ features, scale * bias

    @property
    def transductive(self) -> str:
        """See `AbstractLearner.transductive`."""
        return "refined" if self.head == "ridge" else super().transductive

    @torch.no_grad()
    def predict_transductive(
        self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], query_x: Float[Tensor, "q c h w"]
    ) -> Float[Tensor, "q way"]:
        """Ridge regression refines itself on the queries; nearest centroids use their BatchNorm statistics."""
        if self.head != "ridge":
            return super().predict_transductive(support_x, support_y, query_x)
        images = torch.cat([support_x, query_x])
        features = embed(self._copies(), images, normalise=self.normalise)
        return self_trained_ridge(features @ features.T, support_y)

    def _copies(self) -> list[Encoder]:
        return [copy.deepcopy(encoder).eval().requires_grad_(False) for encoder in self.frozen_encoders]

    def meta_loss(self, episode: Episode) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Cross-entropy of the queries under the head of the support, as a prototypical network is trained."""
        support, query = (
            embed(self.frozen_encoders, images, normalise=self.normalise)
            for images in (episode.support_x, episode.query_x)
        )
        logits = F.linear(query, *self.linear(support, episode.support_y))
        return F.cross_entropy(logits, episode.query_y), percent_right(logits, episode.query_y)

    def describe(self) -> dict[str, Any]:
        """See `AbstractLearner.describe`."""
        backbones = [encoder.backbone for encoder in self.frozen_encoders]
        count = sum(len(networks_of(backbone)) for backbone in backbones)
        return {"learner": self.head, "network": network_name(backbones), "networks_at_inference": count}
