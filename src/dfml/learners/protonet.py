"""Prototypical networks."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.episode import Episode
from dfml.learners.base import AbstractLearner, Predictor, centroid_head, class_means, percent_right
from dfml.learners.frozen import FrozenLearner
from dfml.nn import Encoder, Norm


class ProtoNet(AbstractLearner):
    """Prototypical network (Snell et al., NeurIPS 2017): nearest class mean in a meta-learned feature space.

    Args:
        encoder: the meta-learned network.
        normalise: L2-normalise the features.
        norm: BatchNorm for the inductive headline. A training episode uses its own batch's statistics, and the
            running ones learn from it.
    """

    def __init__(self, encoder: Encoder, *, normalise: bool = True, norm: Norm = "running"):
        super().__init__()
        self.encoder, self.normalise, self.norm = encoder, normalise, norm
        self.scale = nn.Parameter(torch.tensor(5.0 if normalise else 1.0))

    @property
    def frozen_encoders(self) -> list[Encoder]:
        """Adapting leaves the network as it is, so a whole split can be embedded once."""
        return [self.encoder]

    def adapt(
        self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], *, norm: Norm | None = None
    ) -> Predictor:
        """The class means as a linear head."""
        return FrozenLearner([self.encoder], normalise=self.normalise).adapt(
            support_x, support_y, norm=norm or self.norm
        )

    def meta_loss(self, episode: Episode) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Cross-entropy of the queries over ``-scale |f - c|^2``."""
        was_training = self.encoder.training
        features = self.encoder.train()(torch.cat([episode.support_x, episode.query_x]))
        self.encoder.train(was_training)
        if self.normalise:
            features = F.normalize(features, dim=-1)
        support, query = features.split([len(episode.support_x), len(episode.query_x)])
        logits = F.linear(query, *centroid_head(class_means(support, episode.support_y), self.scale))
        return F.cross_entropy(logits, episode.query_y), percent_right(logits, episode.query_y)
