"""One backbone that answers in the place of many classifiers; its answers are its features."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.functional.divergences import grouped_log_softmax
from dfml.nn.description import describe
from dfml.nn.norm import BatchNorm2d

# Chosen on validation classes with 5 to 100 classifiers: docs/consolidation.md.
HIDDEN_COUNTS = 30  # classifiers
POSTERIOR_TEMPERATURE = 2.0
POSTERIOR_RIDGE = 0.01  # of the least squares, beside one observation of a classifier
DENSE, ITERATIONS = 4096, 40  # classes up to which the least squares are solved by an inverse; steps beyond


class AnsweringBackbone(nn.Module):
    """A backbone under the heads of several classifiers.

    Its features are the square roots of all their probabilities, so that the squared Euclidean distance of two images
    is twice the sum of their squared Hellinger distances; every classifier counts the same. The origin is the answer
    that says nothing, all classes equally likely: a cosine then compares what is said.

    Two things are joined to the answers of several classifiers, each at unit length:

    - one posterior over all classes that they know together (`joint_logits`), taken as the answers are: single answers
      deviate from it by chance. It counts as much as all of them where classes are known to two classifiers or more,
      less where fewer are shared, and is left out where none is;
    - a hidden layer under the heads, which counts as much as `HIDDEN_COUNTS` classifiers: few classifiers alone say
      little of a new class, and beside many it changes nothing.

    Args:
        backbone: maps [n, c, h, w] to [n, features] and knows ``feature_size``.
        classes: for each classifier the numbers of its classes; the same class has the same number everywhere.
        hidden: units of a hidden layer that all heads share; 0 puts linear heads on the backbone itself.
        heads: False takes the backbone's features for the answers as they are.
    """

    def __init__(
        self, backbone: nn.Module, classes: Sequence[Sequence[int]], *, hidden: int = 0, heads: bool | nn.Module = True
    ):
        super().__init__()
        self.backbone, self.classes, self.hidden = backbone, [list(known) for known in classes], hidden
        self.sizes = tuple(len(known) for known in classes)
        features = int(backbone.feature_size)  # type: ignore[arg-type]
        self.trunk = _hidden_layer(features, hidden) if hidden else nn.Identity()
        if isinstance(heads, bool):
            heads = nn.Linear(hidden or features, sum(self.sizes)) if heads else nn.Identity()
        self.heads: nn.Module = heads
        self.origin: Tensor
        self.register_buffer("origin", torch.cat([torch.full((n,), n**-0.5) for n in self.sizes]), persistent=False)
        known = len({c for each in self.classes for c in each})
        self.shared = sum(self.sizes) / known - 1  # how many other classifiers know a class, in the mean
        self.joint = JointLogits(self.classes) if self.shared else None
        self.feature_size = sum(self.sizes) + hidden + (known if self.joint else 0)

    def grown(self, classes: Sequence[Sequence[int]]) -> "AnsweringBackbone":
        """The same backbone and trunk under heads for more classifiers; those that are there stay as they are.

        Args:
            classes: of those that are there, in their order, and then of those that join them. Numbers may be others
                than before: what counts is which classes are the same.
        """
        grown = AnsweringBackbone(self.backbone, classes, hidden=self.hidden)
        grown.trunk = self.trunk
        with torch.no_grad():
            for name, old in self.heads.named_parameters():
                grown.heads.get_parameter(name)[: len(old)] = old
        return grown.train(self.training).to(self.origin.device)

    @property
    def description(self) -> dict[str, Any]:
        """See `dfml.nn.build_network`."""
        return {
            "kind": "answering",
            "backbone": describe(self.backbone),
            "classes": self.classes,
            "hidden": self.hidden,
            "heads": not isinstance(self.heads, nn.Identity),
        }

    def logits(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n outputs"]:
        """Logits of all classifiers, one after another; inputs are already normalised."""
        return self.heads(self.trunk(self.backbone(x)))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Answers, joint posterior, hidden layer."""
        hidden = self.trunk(self.backbone(x))
        logits = self.heads(hidden)
        parts = [((0.5 * grouped_log_softmax(logits, self.sizes)).exp() - self.origin, 1.0)]
        if self.joint is not None:
            posterior = (self.joint(logits.float()) / POSTERIOR_TEMPERATURE).softmax(-1)
            parts.append((posterior.sqrt() - posterior.shape[1] ** -0.5, min(1.0, self.shared) ** 0.5))
        if self.hidden:
            parts.append((hidden, (HIDDEN_COUNTS / len(self.sizes)) ** 0.5))
        if len(parts) == 1:
            return parts[0][0]
        return torch.cat([weight * F.normalize(part, dim=-1) for part, weight in parts], -1)


class JointLogits(nn.Module):
    """The linear map from all classifiers' logits to one logit for each class that some of them know.

    The logits of an image say how much better a class fits than another, to those who know both. The joint logits
    agree with all these differences in the least squares, as in ranking from comparisons (Jiang et al. 2011,
    "Statistical ranking and combinatorial Hodge theory"). Their normal equations are as many as there are classes, and
    their right-hand side is gathered from the outputs, so that no map from outputs to classes is ever made. Of many
    classes they are solved step by step, without their matrix.

    Args:
        classes: for each classifier the numbers of its classes.
    """

    def __init__(self, classes: Sequence[Sequence[int]]):
        super().__init__()
        known = sorted({c for each in classes for c in each})
        row_of = {c: row for row, c in enumerate(known)}
        sizes = torch.tensor([len(each) for each in classes])
        self.rows: Tensor
        self.classifier: Tensor
        self.sizes: Tensor
        self.knowing: Tensor
        self.inverse: Tensor | None
        rows = torch.tensor([row_of[c] for each in classes for c in each])
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("classifier", torch.arange(len(classes)).repeat_interleave(sizes), persistent=False)
        self.register_buffer("sizes", sizes.float(), persistent=False)
        self.register_buffer("knowing", rows.bincount(minlength=len(known)).float(), persistent=False)
        inverse = self._inverse(sizes, len(known)) if len(known) <= DENSE else None
        self.register_buffer("inverse", inverse, persistent=False)

    def _inverse(self, sizes: Tensor, known: int) -> Float[Tensor, "known known"]:
        normal = POSTERIOR_RIDGE * torch.eye(known, dtype=torch.float64)
        for each in self.rows.split(sizes.tolist()):  # of each classifier: its logits around their mean, squared
            normal[each, each] += 1
            normal[each[:, None], each] -= 1 / len(each)
        return torch.linalg.inv(normal).float()

    def _around_mean(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n known"]:
        """Each classifier's logits around their mean, summed up by class."""
        totals = logits.new_zeros(logits.shape[0], len(self.sizes)).index_add(1, self.classifier, logits)
        around_mean = logits - (totals / self.sizes)[:, self.classifier]
        return logits.new_zeros(logits.shape[0], len(self.knowing)).index_add(1, self.rows, around_mean)

    def _solved(self, right: Float[Tensor, "n known"]) -> Float[Tensor, "n known"]:
        """The normal equations by conjugate gradients, so that no map between classes is ever made."""
        scale = self.knowing + POSTERIOR_RIDGE
        x, residual = torch.zeros_like(right), right
        turned = direction = residual / scale
        size = (residual * turned).sum(-1, keepdim=True)
        for _ in range(ITERATIONS):
            moved = POSTERIOR_RIDGE * direction + self._around_mean(direction[:, self.rows])
            step = size / (direction * moved).sum(-1, keepdim=True).clamp(min=1e-20)
            x, residual = x + step * direction, residual - step * moved
            turned = residual / scale
            size, before = (residual * turned).sum(-1, keepdim=True), size
            direction = turned + size / before.clamp(min=1e-20) * direction
        return x

    def forward(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n known"]:
        """Joint logits, in the order of the classes' numbers."""
        right = self._around_mean(logits)
        return self._solved(right) if self.inverse is None else right @ self.inverse


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution of maps of one pixel, computed as the product that it is, several times as fast on a CPU."""

    def forward(self, input: Float[Tensor, "n c 1 1"]) -> Float[Tensor, "n o 1 1"]:
        return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


def _hidden_layer(features: int, hidden: int) -> nn.Sequential:
    """A 1x1 convolution is a linear layer whose BatchNorm obeys the same policy, and folds away, as all others do."""
    convolution = _Pointwise(features, hidden, 1, bias=False)
    return nn.Sequential(nn.Unflatten(1, (features, 1, 1)), convolution, BatchNorm2d(hidden), nn.ReLU(), nn.Flatten())
