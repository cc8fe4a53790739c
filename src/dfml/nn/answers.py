"""One backbone that answers in the place of many classifiers; its answers are its features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.functional.divergences import grouped_log_softmax
from dfml.nn.norm import BatchNorm2d

HIDDEN_COUNTS = 10  # chosen on validation classes with 5, 10, 20 and 100 classifiers: docs/consolidation.md


class AnsweringBackbone(nn.Module):
    """A backbone under the heads of several classifiers.

    Its features are the square roots of all their probabilities, so that the squared Euclidean distance of two images
    is twice the sum of their squared Hellinger distances; every classifier counts the same. The origin is the answer
    that says nothing, all classes equally likely: a cosine then compares what is said.

    A hidden layer under the heads is joined to the answers, both at unit length, and counts as much as `HIDDEN_COUNTS`
    classifiers: few classifiers alone say little of a new class, and beside many it changes nothing.

    Args:
        backbone: maps [n, c, h, w] to [n, features] and knows ``feature_size``.
        sizes: classes of each classifier.
        hidden: units of a hidden layer that all heads share; 0 puts linear heads on the backbone itself.
    """

    def __init__(self, backbone: nn.Module, sizes: Sequence[int], *, hidden: int = 0):
        super().__init__()
        self.backbone, self.sizes, self.hidden = backbone, tuple(sizes), hidden
        features = int(backbone.feature_size)  # type: ignore[arg-type]
        self.trunk = _hidden_layer(features, hidden) if hidden else nn.Identity()
        self.heads = nn.Linear(hidden or features, sum(sizes))
        self.feature_size = sum(sizes) + hidden
        self.origin: Tensor
        self.register_buffer("origin", torch.cat([torch.full((n,), n**-0.5) for n in sizes]), persistent=False)

    def logits(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n outputs"]:
        """Logits of all classifiers, one after another; inputs are already normalised."""
        return self.heads(self.trunk(self.backbone(x)))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Square roots of the probabilities minus those of the answer that says nothing; then the hidden layer."""
        hidden = self.trunk(self.backbone(x))
        answers = (0.5 * grouped_log_softmax(self.heads(hidden), self.sizes)).exp() - self.origin
        if not self.hidden:
            return answers
        weight = (HIDDEN_COUNTS / len(self.sizes)) ** 0.5
        return torch.cat([F.normalize(answers, dim=-1), weight * F.normalize(hidden, dim=-1)], -1)


def _hidden_layer(features: int, hidden: int) -> nn.Sequential:
    """A 1x1 convolution is a linear layer whose BatchNorm obeys the same policy, and folds away, as all others do."""
    convolution = nn.Conv2d(features, hidden, 1, bias=False)
    return nn.Sequential(nn.Unflatten(1, (features, 1, 1)), convolution, BatchNorm2d(hidden), nn.ReLU(), nn.Flatten())
