"""The network under training: an encoder, one head row per zoo class, and the learner around the encoder."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.learners.base import AbstractLearner
from dfml.nn import Encoder


class MetaModel(nn.Module):
    """Encoder, head and learner, which share parameters.

    Args:
        encoder: the network that all training moves.
        head: one row per zoo class, gathered in a teacher's order, so that the label orders of teachers agree; or the
            learner's own literal head.
        learner: built around the same ``encoder``.
    """

    def __init__(self, encoder: Encoder, head: nn.Linear, learner: AbstractLearner):
        super().__init__()
        self.encoder, self.head, self.learner = encoder, head, learner
        self.eval()

    def forward(
        self, images: Float[Tensor, "n c h w"], rows: Int[Tensor, " way"] | None = None
    ) -> Float[Tensor, "n way"]:
        """Logits of images in [0, 1] for these rows of the head (None: all)."""
        features = self.encoder(images)
        if rows is None:
            return self.head(features)
        return nn.functional.linear(features, self.head.weight[rows], self.head.bias[rows])

    def distilled_parameters(self) -> dict[str, nn.Parameter]:
        """What distillation moves: encoder and head, by name."""
        return {k: p for k, p in self.named_parameters() if k.startswith(("encoder.", "head."))}


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """average <- d average + (1 - d) model, parameters and buffers, with d rising to ``decay`` over the first steps."""
    d = min(decay, (1 + step) / (10 + step))
    for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - d)
        else:
            a.copy_(b)
