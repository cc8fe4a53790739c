"""A teacher: one frozen model of the zoo."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.functional.priors import BatchNormStatistics, capture_statistics
from dfml.nn import Classifier, Encoder, inference_copy
from dfml.nn.precision import mixed_precision
from dfml.zoo.card import Capability, ModelCard

ANSWER_BATCH = 128  # images at once: activations stay in the cache


@runtime_checkable
class Teacher(Protocol):
    """What recovery and distillation need of a model. It never leaves eval mode and no call changes it."""

    card: ModelCard
    capabilities: Capability

    @property
    def device(self) -> torch.device:
        """Where its answers are."""

    def logits(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of images in [0, 1], at the teacher's size; differentiable where it has GRADIENTS."""

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Flattened features of the last block, where it has FEATURES."""

    def answers(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of many images without gradient, as fast as this machine can."""

    def capture(self) -> AbstractContextManager[list[BatchNormStatistics]]:
        """Where it has BN_STATISTICS: inside the block each forward pass leaves batch and running statistics here."""


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

    def logits(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of images in [0, 1]."""
        return self.network(self.card.input_spec.normalise(images))

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Flattened features of the last block."""
        return self.network.backbone(self.card.input_spec.normalise(images))

    @torch.no_grad()
    def answers(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of many images without gradient, as fast as this machine can; resized where needed."""
        if self._fast is None:
            self._fast = inference_copy(Encoder(self.backbone, self.card.input_spec))
        with mixed_precision():
            features = torch.cat([self._fast(batch) for batch in self.card.input_spec.fit(images).split(ANSWER_BATCH)])
        return self.network.head(features.float())

    @torch.no_grad()
    def probabilities(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Softmax of the logits, without gradient."""
        return self.logits(images).softmax(-1)

    def capture(self) -> AbstractContextManager[list[BatchNormStatistics]]:
        """See `Teacher.capture`; the hooks live only inside the block."""
        return capture_statistics(self.network)

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
