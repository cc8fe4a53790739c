"""The contract of every learner, and the predictor that adapting gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.episode import Episode
from dfml.functional.heads import centroid_coefficients
from dfml.nn import Encoder, Norm, as_images, is_transductive
from dfml.nn.encoder import tensors_of

Metrics = dict[str, float]
BATCH = 128  # images that a predictor looks at at once


class Predictor(nn.Module):
    """A learner adapted to one task: encoders, their features joined, and a linear head.

    Every head of this library is linear in the features; a nearest centroid is ``2 f.c - |c|^2``. How BatchNorm is set
    was written into the encoders (`dfml.nn.write_norm`): predicting changes nothing, so threads may share a predictor.

    Args:
        encoders: one or several; each one's features are L2-normalised if ``normalise``, then concatenated.
        weight: the head's weight.
        bias: the head's bias.
        normalise: L2-normalise each encoder's features.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        weight: Float[Tensor, "way features"],
        bias: Float[Tensor, " way"],
        *,
        normalise: bool = True,
    ):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.weight, self.bias, self.normalise = weight.detach(), bias.detach(), normalise
        self.eval()

    @property
    def transductive(self) -> bool:
        """Whether an answer for an image depends on the images beside it (BatchNorm ``query_batch``)."""
        return is_transductive(self.encoders)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Float[Tensor, "n way"]:
        """Logits of images [n, channels, height, width], in [0, 1] or uint8.

        In batches, so that the memory of activations is bounded, unless an answer depends on the other images.

        Raises:
            InputError: images of another type, shape or range; see `dfml.nn.as_images`.
        """
        images = as_images(images, self.weight.dtype)
        encoders: list[Encoder] = list(self.encoders)  # type: ignore[arg-type]
        batches = [images] if self.transductive else images.split(BATCH)
        features = torch.cat([embed(encoders, batch, normalise=self.normalise) for batch in batches])
        return F.linear(features, self.weight, self.bias)

    def probabilities(self, images: Tensor) -> Float[Tensor, "n way"]:
        """Class probabilities of images in [0, 1]."""
        return self(images).softmax(-1)


def embed(
    encoders: Sequence[Encoder], images: Float[Tensor, "n c h w"], *, normalise: bool = True
) -> Float[Tensor, "n features"]:
    """Features of all encoders, each L2-normalised if asked for, concatenated."""
    return join([encoder(encoder.spec.fit(images)) for encoder in encoders], normalise=normalise)


def join(parts: Sequence[Float[Tensor, "n _"]], *, normalise: bool) -> Float[Tensor, "n features"]:
    """Each encoder's features, L2-normalised if asked for, in one row an image."""
    if normalise:
        parts = [F.normalize(part, dim=-1) for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)


class AbstractLearner(nn.Module, ABC):
    """Learns to learn: any number of classes, uneven shots. `adapt` leaves it unchanged."""

    kind: ClassVar[str]
    """Its name in `dfml.learners.learners`, by which a file of it is read."""
    norm: Norm = "running"
    """How BatchNorm is set for the inductive headline."""
    normalise: bool = True
    """Whether each encoder's features are L2-normalised; read together with `frozen_encoders`."""

    @property
    @abstractmethod
    def networks(self) -> list[Encoder]:
        """Its networks, one or several, as its constructor takes them."""

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Plain keyword arguments that, with the networks, build it again."""

    @property
    def transductive(self) -> str:
        """What `predict_transductive` does: how BatchNorm is set, or ``refined``."""
        return "query_batch"

    def predict_transductive(
        self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], query_x: Float[Tensor, "q c h w"]
    ) -> Float[Tensor, "q way"]:
        """Logits of all queries of a task, looked at together (transductive): an answer depends on its neighbours."""
        return self.adapt(support_x, support_y, norm="query_batch")(query_x)

    @property
    def frozen_encoders(self) -> list[Encoder] | None:
        """Where `adapt` with ``running`` statistics is no more than a head in `coefficients`: the encoders, else None.

        Evaluation then embeds an image set once for all episodes.
        """
        return None

    def coefficients(self, kernel: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """That head, in dual form; see `dfml.functional.heads`."""
        return centroid_coefficients(kernel, labels)

    def adapt(self, support_x: Tensor, support_y: Int[Tensor, " n"], *, norm: Norm | None = None) -> Predictor:
        """A new predictor for the task.

        Args:
            support_x: images [n, channels, height, width], in [0, 1] or uint8; fitted to the learner's networks.
            support_y: labels 0..way-1; shots may be uneven.
            norm: how BatchNorm is set; None is the learner's own way.

        Raises:
            InputError: images of another type, shape or range; see `dfml.nn.as_images`.
        """
        dtype = next((t.dtype for t in tensors_of(self) if t.is_floating_point()), torch.float32)
        return self._adapt(as_images(support_x, dtype), support_y, norm=norm or self.norm)

    @abstractmethod
    def _adapt(self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], *, norm: Norm) -> Predictor:
        """`adapt`, with floats in [0, 1] of any size."""

    @abstractmethod
    def meta_loss(self, episode: Episode) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The differentiable loss of one training episode, and the accuracy on its queries in percent.

        Learners that move their network also take probabilities as labels: cross-entropy, which is KL divergence up to
        the labels' own entropy, in the inner loop as in the loss.
        """

    def meta_losses(self, episodes: Sequence[Episode]) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
        """`meta_loss` of several episodes. A learner that can computes them all at once, to the same numbers."""
        losses, accuracies = zip(*(self.meta_loss(episode) for episode in episodes), strict=True)
        return torch.stack(losses), torch.stack(accuracies)

    def describe(self) -> dict[str, Any]:
        """Plain values that name the learner in results: its kind, network and number of networks at inference."""
        return {"learner": type(self).__name__.lower()}


def percent_right(
    logits: Float[Tensor, "q way"], labels: Int[Tensor, " q"] | Float[Tensor, "q way"]
) -> Float[Tensor, ""]:
    """Share of the queries whose largest logit is the right one, or the likeliest, in percent."""
    right = labels.argmax(-1) if labels.is_floating_point() else labels
    return 100 * (logits.argmax(-1) == right).float().mean()


def class_means(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | Float[Tensor, "n {way}"], way: int
) -> Float[Tensor, "{way} d"]:
    """Mean feature of each class 0..way-1; shots may be uneven.

    Of probabilities, the mean in which an image counts as much as it is likely to be of the class.
    """
    if labels.is_floating_point():
        shares = labels.to(features.dtype) / labels.sum(0).clamp(min=1e-12)
        return shares.T @ features
    onehot = F.one_hot(labels, way).to(features.dtype)
    return (onehot.T @ features) / onehot.sum(0)[:, None]


def centroid_head(centroids: Float[Tensor, "way d"], scale: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Weight and bias of the linear head equal to ``-scale |f - c|^2`` up to a term that all classes share."""
    return 2 * scale * centroids, -scale * (centroids**2).sum(-1)
