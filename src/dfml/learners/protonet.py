"""Prototypical networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import vmap

from dfml.bounds import Count
from dfml.episode import Episode, can_stack, stack
from dfml.learners.base import AbstractLearner, Predictor, centroid_head, class_means, percent_right
from dfml.learners.calibration import calibrated
from dfml.learners.frozen import FrozenLearner
from dfml.nn import Encoder, Norm, several_batches


class ProtoNet(AbstractLearner):
    """Prototypical network (Snell et al., NeurIPS 2017): nearest class mean in a meta-learned feature space.

    Args:
        encoder: the meta-learned network.
        normalise: L2-normalise the features.
        norm: BatchNorm for the inductive headline. A training episode uses its own batch's statistics, and the
            running ones learn from it.
        icfil_steps: of PURER's calibration after `adapt`, a reconstruction (`dfml.learners.calibration`); 0: none.
    """

    kind = "protonet"

    def __init__(self, encoder: Encoder, *, normalise: bool = True, norm: Norm = "running", icfil_steps: Count = 0):
        super().__init__()
        self.encoder, self.normalise, self.norm, self.icfil_steps = encoder, normalise, norm, icfil_steps
        self.scale = nn.Parameter(torch.tensor(5.0 if normalise else 1.0))

    @property
    def networks(self) -> list[Encoder]:
        """See `AbstractLearner.networks`."""
        return [self.encoder]

    @property
    def options(self) -> dict[str, Any]:
        """See `AbstractLearner.options`."""
        newer = {"icfil_steps": self.icfil_steps} if self.icfil_steps else {}  # earlier versions do not know of it
        return {"normalise": self.normalise, "norm": self.norm} | newer

    @property
    def frozen_encoders(self) -> list[Encoder] | None:
        """Adapting leaves the network as it is, so a whole split can be embedded once; calibration moves it."""
        return None if self.icfil_steps else [self.encoder]

    def _adapt(self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], *, norm: Norm) -> Predictor:
        """The class means as a linear head."""
        predictor = FrozenLearner([self.encoder], normalise=self.normalise).adapt(support_x, support_y, norm=norm)
        if self.icfil_steps:
            fitted = self.encoder.spec.fit(support_x)
            return calibrated(predictor, fitted, support_y, steps=self.icfil_steps)
        return predictor

    def meta_loss(self, episode: Episode) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Cross-entropy of the queries over ``-scale |f - c|^2``."""
        features = self._training_features(torch.cat([episode.support_x, episode.query_x]))
        return self._score(episode.way, features, episode.support_y, episode.query_y)

    def meta_losses(self, episodes: Sequence[Episode]) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
        """One batch of all episodes' images, each normalised among its own."""
        if len(episodes) == 1 or not can_stack(episodes):
            return super().meta_losses(episodes)
        support_x, support_y, query_x, query_y = stack(episodes)
        with several_batches(self.encoder, len(episodes)):
            features = self._training_features(torch.cat([support_x, query_x], 1).flatten(0, 1))
        score = partial(self._score, episodes[0].way)
        return vmap(score)(features.unflatten(0, (len(episodes), -1)), support_y, query_y)

    def _training_features(self, images: Tensor) -> Tensor:
        was_training = self.encoder.training
        features = self.encoder.train()(images)
        self.encoder.train(was_training)
        return F.normalize(features, dim=-1) if self.normalise else features

    def _score(self, way: int, features: Tensor, support_y: Tensor, query_y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of the queries, whose features stand behind the support's."""
        support, query = features.split([len(support_y), len(query_y)])
        logits = F.linear(query, *centroid_head(class_means(support, support_y, way), self.scale))
        return F.cross_entropy(logits, query_y), percent_right(logits, query_y)
