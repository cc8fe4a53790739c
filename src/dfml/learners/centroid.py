"""Nearest centroid: no training, the yardstick of every table."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.episode import Episode
from dfml.learners.base import AbstractLearner, Metrics, Predictor, centroid_head, class_means, embed
from dfml.nn import Encoder, Norm, network_name, record_statistics
from dfml.nn.norm import Statistics

SCALE = 10.0
"""Of the squared distances, averaged over networks, where probabilities are wanted; accuracy does not depend on it."""


class CentroidLearner(AbstractLearner):
    """Class means of features, compared by squared Euclidean distance.

    The features of each network's last block are flattened, L2-normalised if ``normalise``, and concatenated
    over networks (protocol.md).

    Args:
        encoders: one network or several.
        normalise: L2-normalise each network's features.
    """

    norm = "running"

    def __init__(self, encoders: Encoder | Sequence[Encoder], *, normalise: bool = True):
        super().__init__()
        self.encoders = nn.ModuleList([encoders] if isinstance(encoders, Encoder) else encoders)
        self.normalise = normalise

    @property
    def frozen_encoders(self) -> list[Encoder]:
        """The encoders: adapting trains none of them."""
        return list(self.encoders)  # type: ignore[arg-type]

    @property
    def _scale(self) -> float:
        return SCALE / len(self.encoders)

    def adapt(
        self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], *, norm: Norm | None = None
    ) -> Predictor:
        """Centroids of the support. The predictor has copies of the encoders: later training leaves it alone."""
        norm = norm or self.norm
        encoders = [copy.deepcopy(encoder).eval().requires_grad_(False) for encoder in self.frozen_encoders]
        with torch.no_grad():
            features, statistics = self._embed_support(encoders, support_x, norm)
            weight, bias = centroid_head(class_means(features, support_y), self._scale)
        return Predictor(encoders, weight, bias, norm=norm, statistics=statistics, normalise=self.normalise)

    def _embed_support(self, encoders: list[Encoder], images: Tensor, norm: Norm) -> tuple[Tensor, list[Statistics]]:
        if norm != "support":
            return embed(encoders, images, norm=norm, normalise=self.normalise), []
        parts, statistics = [], []
        for encoder in encoders:
            with record_statistics(encoder) as recorded:
                part = encoder(images)
            parts.append(F.normalize(part, dim=-1) if self.normalise else part)
            statistics.append(recorded)
        return torch.cat(parts, -1), statistics

    def meta_loss(self, episode: Episode) -> tuple[Float[Tensor, ""], Metrics]:
        """Cross-entropy of the queries under softmax(-10 squared distance), as a prototypical network is trained."""
        encoders = self.frozen_encoders
        support, statistics = self._embed_support(encoders, episode.support_x, self.norm)
        query = embed(encoders, episode.query_x, norm=self.norm, statistics=statistics, normalise=self.normalise)
        logits = F.linear(query, *centroid_head(class_means(support, episode.support_y), self._scale))
        loss = F.cross_entropy(logits, episode.query_y)
        accuracy = 100 * (logits.argmax(-1) == episode.query_y).float().mean()
        return loss, {"loss": float(loss.detach()), "accuracy": float(accuracy)}

    def describe(self) -> dict[str, Any]:
        """See `AbstractLearner.describe`."""
        network = network_name(encoder.backbone for encoder in self.frozen_encoders)
        return {"learner": "centroid", "network": network, "networks_at_inference": len(self.encoders)}
