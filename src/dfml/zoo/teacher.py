"""A teacher: one frozen model of the zoo, and what it can be asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dfml.functional.priors import BatchNormStatistics, capture_statistics
from dfml.nn import Classifier, Encoder, inference_copy
from dfml.nn.precision import mixed_precision
from dfml.zoo.card import Capability, ModelCard

ANSWER_BATCH = 128  # images at once: activations stay in the cache
AnswerKind = Literal["logits", "probabilities", "labels"]


@dataclass(frozen=True)
class Forward:
    """What a differentiable pass gives: logits, and the statistics of BatchNorm layers where they were asked for."""

    logits: Float[Tensor, "n classes"]
    statistics: list[BatchNormStatistics] = field(default_factory=list)


@runtime_checkable
class Teacher(Protocol):
    """What recovery and distillation need of a model. It never leaves eval mode and no call changes it.

    Images are in [0, 1], on any canvas: a teacher fits them to its own input.
    """

    card: ModelCard
    capabilities: Capability

    @property
    def device(self) -> torch.device:
        """Where its answers are."""

    def forward(self, images: Float[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """One pass, differentiable where it has GRADIENTS; ``statistics`` where it has BN_STATISTICS."""

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Flattened features of the last block, where it has FEATURES; differentiable where it has GRADIENTS."""

    def answers(self, images: Float[Tensor, "n c h w"], kind: AnswerKind = "logits") -> Shaped[Tensor, "n ..."]:
        """Answers on many images without gradient, in batches: ``labels`` are [n], the others [n, classes]."""


def as_kind(logits: Float[Tensor, "n classes"], kind: AnswerKind) -> Shaped[Tensor, "n ..."]:
    """Logits, or what less they say."""
    if kind == "labels":
        return logits.argmax(-1)
    return logits.softmax(-1) if kind == "probabilities" else logits


class LocalTeacher:
    """A teacher whose weights are at hand.

    Args:
        card: its card.
        network: its network, frozen here.
    """

    capabilities = Capability.WHITE_BOX

    def __init__(self, card: ModelCard, network: Classifier):
        self.card = card
        self.network: Classifier = network.eval().requires_grad_(False)
        self._fast: Encoder | None = None
        self.nbytes = 2 * sum(v.nbytes for v in network.state_dict().values())
        """Memory of the weights, and of the copy of them that `answers` makes at its first call."""

    def forward(self, images: Float[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """See `Teacher.forward`; the hooks live only inside the call."""
        if not statistics:
            return Forward(self.network(self._fit(images)))
        with capture_statistics(self.network) as captured:
            logits = self.network(self._fit(images))
        return Forward(logits, captured)

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """See `Teacher.features`."""
        return self.network.backbone(self._fit(images))

    @torch.no_grad()
    def answers(self, images: Float[Tensor, "n c h w"], kind: AnswerKind = "logits") -> Shaped[Tensor, "n ..."]:
        """See `Teacher.answers`; as fast as this machine can."""
        if self._fast is None:
            self._fast = inference_copy(Encoder(self.backbone, self.card.input_spec))
        fit = self.card.input_spec.fit
        with mixed_precision():
            features = torch.cat([self._fast(fit(batch)) for batch in images.split(ANSWER_BATCH)])
        return as_kind(self.network.head(features.float()), kind)

    def _fit(self, images: Tensor) -> Tensor:
        spec = self.card.input_spec
        return spec.normalise(spec.fit(images))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def backbone(self) -> nn.Module:
        """The network below the head."""
        return self.network.backbone


T = TypeVar("T")


class OnDemand(Sequence[T]):
    """The teachers of a step, each loaded when it is asked for; how many stay in memory is the zoo's affair.

    Args:
        load: gives a teacher by its id, as `Zoo.teacher` does.
        ids: of the teachers, in order.
    """

    def __init__(self, load: Callable[[str], T], ids: Sequence[str]):
        self._load, self._ids = load, ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, key: int) -> T: ...

    @overload
    def __getitem__(self, key: slice) -> "OnDemand[T]": ...

    def __getitem__(self, key: int | slice) -> "T | OnDemand[T]":
        if isinstance(key, slice):
            return OnDemand(self._load, self._ids[key])
        return self._load(self._ids[key])
