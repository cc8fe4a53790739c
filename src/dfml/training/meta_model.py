"""The network under training: an encoder, one head row per zoo class, and the learner around the encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.learners import AbstractLearner, learners
from dfml.nn import Encoder, InputSpec, build_backbone
from dfml.randomness import Rng


@dataclass(frozen=True)
class ModelOptions:
    """What a meta-model is made of.

    Args:
        learner: a key of `dfml.learners.learners`.
        learner_options: keyword arguments of that learner.
        network: architecture of the encoder.
        width: its channels; None is the architecture's usual width.
    """

    learner: str = "protonet"
    learner_options: Mapping[str, Any] = field(default_factory=dict)
    network: str = "conv4"
    width: int | None = None


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


def build_meta_model(
    options: ModelOptions, canvas: InputSpec, *, classes: int, head: Literal["class", "literal"] = "class", rng: Rng
) -> MetaModel:
    """A randomly initialised meta-model.

    Args:
        options: learner and network.
        canvas: the images.
        classes: zoo classes, the rows of the class head.
        head: ``class``, or the learner's own ``literal`` one.
        rng: decides the weights.

    Raises:
        InputError: a literal head of a learner that has none.
    """
    with rng.seeded("model"):
        backbone = build_backbone(
            options.network, image_size=canvas.size, channels=canvas.channels, width=options.width
        )
        encoder = Encoder(backbone, canvas)
        built = learners()[options.learner](encoder, **options.learner_options)
        rows = nn.Linear(encoder.feature_size, classes)
    if head == "literal":
        literal = getattr(built, "head", None)
        if literal is None:
            raise InputError(
                f"head = literal with learner {options.learner} {dict(options.learner_options)}",
                "a learner that has a literal head of its own",
                "use learner maml or anil with learner.head = literal, or head = class",
            )
        rows = literal
    return MetaModel(encoder, rows, built).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def grown_adam(adam: torch.optim.Optimizer, before: list[Tensor], after: list[Tensor]) -> torch.optim.Adam:
    """Adam over parameters of which some have more rows than before: it remembers what it knows of the old rows.

    Args:
        adam: over the parameters as they were.
        before: these.
        after: those that take their places, in the same order.
    """
    grown = torch.optim.Adam(after, lr=adam.param_groups[0]["lr"], fused=adam.param_groups[0]["fused"])
    for old, new in zip(before, after, strict=True):
        if old in adam.state:
            grown.state[new] = {
                name: value if value.shape != old.shape else _with_rows(value, len(new))
                for name, value in adam.state[old].items()
            }
    return grown


def _with_rows(value: Tensor, rows: int) -> Tensor:
    more = value.new_zeros(rows - len(value), *value.shape[1:])
    return torch.cat([value, more]) if len(more) else value


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """average <- d average + (1 - d) model, parameters and buffers, with d rising to ``decay`` over the first steps."""
    d = min(decay, (1 + step) / (10 + step))
    ours, theirs = list(average.state_dict().values()), list(model.state_dict().values())
    real = [a.is_floating_point() for a in ours]
    torch._foreach_lerp_(list(compress(ours, real)), list(compress(theirs, real)), 1 - d)
    for a, b in zip(ours, theirs, strict=True):
        if not a.is_floating_point():
            a.copy_(b)  # BatchNorm's count of batches
