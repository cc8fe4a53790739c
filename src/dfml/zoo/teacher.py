"""A teacher: one frozen model of the zoo, and what it can be asked."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Float, Num, Shaped
from torch import Tensor, nn

from dfml.compute.memory import in_parts
from dfml.errors import InputError
from dfml.functional.priors import BatchNormStatistics, capture_statistics
from dfml.nn import Classifier, Encoder, as_floats, inference_copy
from dfml.nn.encoder import tensors_of
from dfml.nn.foreign import ForeignBackbone
from dfml.nn.precision import mixed_precision
from dfml.zoo.card import AnswerKind, Capability, ModelCard

ANSWER_BATCH = 128  # images at once: activations stay in the cache
ANSWER_PIXELS = ANSWER_BATCH * 96 * 96  # at once: fewer images where they are larger


@dataclass(frozen=True)
class Forward:
    """What a differentiable pass gives: logits, and the statistics of BatchNorm layers where they were asked for."""

    logits: Float[Tensor, "n classes"]
    statistics: list[BatchNormStatistics] = field(default_factory=list)


@runtime_checkable
class Teacher(Protocol):
    """What recovery and distillation need of a model. It never leaves eval mode and no call changes it.

    Images are in [0, 1] or bytes, on any canvas: a teacher fits them to its own input.
    """

    card: ModelCard
    capabilities: Capability

    @property
    def device(self) -> torch.device:
        """Where its answers are."""

    def forward(self, images: Num[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """One pass, differentiable where it has GRADIENTS; ``statistics`` where it has BN_STATISTICS."""

    def features(self, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Flattened features of the last block, where it has FEATURES; differentiable where it has GRADIENTS."""

    def answers(self, images: Num[Tensor, "n c h w"], kind: AnswerKind = "logits") -> Shaped[Tensor, "n ..."]:
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

    def __init__(self, card: ModelCard, network: Classifier):
        self.card = card
        self.capabilities = Capability.named(card.capabilities) or Capability.WHITE_BOX
        self.network: Classifier = network.eval().requires_grad_(False)
        self._fast: Encoder | None = None
        self._copied = not isinstance(network.backbone, ForeignBackbone)  # of others no layers are known to fold
        tensors = {t.data_ptr(): t.nbytes for t in (*network.parameters(), *network.buffers())}
        self.nbytes = (1 + self._copied) * sum(tensors.values())
        """Memory of the weights, and of the copy of them that `answers` makes at its first call."""

    def forward(self, images: Num[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """See `Teacher.forward`; the hooks live only inside the call.

        Raises:
            InputError: no gradient flows through it.
        """
        if Capability.GRADIENTS not in self.capabilities:
            raise InputError(
                f"a differentiable pass through {self.card.id}",
                "a model through which gradients flow",
                "choose a way of recovery or a method that asks for answers alone",
            )
        if not statistics:
            return Forward(self.network(self._normalised(images)))
        with capture_statistics(self.network) as captured:
            logits = self.network(self._normalised(images))
        return Forward(logits, captured)

    def features(self, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """See `Teacher.features`."""
        return self.network.backbone(self._normalised(images))

    @torch.no_grad()
    def answers(self, images: Num[Tensor, "n c h w"], kind: AnswerKind = "logits") -> Shaped[Tensor, "n ..."]:
        """See `Teacher.answers`; as fast as this machine can."""
        if isinstance(self.backbone, ForeignBackbone):
            backbone = self.backbone
            parts = in_parts(lambda part: backbone.quick_logits(self._normalised(part)), images, self._at_once)
            if parts[0] is not None:
                return as_kind(torch.cat(parts), kind)  # type: ignore[arg-type]
        return as_kind(self.answers_and_features(images)[0], kind)

    @torch.no_grad()
    def answers_and_features(
        self, images: Num[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n features"]]:
        """Logits and features of many images in one pass without gradient; as fast as this machine can."""
        features = torch.cat(in_parts(self._quick_features, images, self._at_once))
        return self.network.head(features), features

    @property
    def _at_once(self) -> int:
        return max(1, min(ANSWER_BATCH, ANSWER_PIXELS // math.prod(self.card.input_spec.shape[1:])))

    def _quick_features(self, batch: Tensor) -> Tensor:
        if self._fast is None:
            encoder = Encoder(self.backbone, self.card.input_spec).eval()
            self._fast = inference_copy(encoder) if self._copied else encoder
        with mixed_precision():
            return self._fast(self._fit(batch)).float()

    @property
    def _dtype(self) -> torch.dtype:
        """Of the weights; what carries its file alone takes float32."""
        dtype = next(tensors_of(self.network)).dtype
        return dtype if dtype.is_floating_point else torch.float32

    def _fit(self, images: Tensor) -> Tensor:
        """In the type of the weights, at the network's own size."""
        return self.card.input_spec.fit(as_floats(images, self._dtype))

    def _normalised(self, images: Tensor) -> Tensor:
        return self.card.input_spec.normalise(self._fit(images))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(tensors_of(self.network)).device

    @property
    def backbone(self) -> nn.Module:
        """The network below the head."""
        return self.network.backbone


T = TypeVar("T")


def _none(_: str) -> Sequence[str]:
    return ()


class OnDemand(Sequence[T]):
    """The teachers of a step, each loaded when it is asked for; how many stay in memory is the zoo's affair.

    Args:
        load: gives a teacher by its id, as `Zoo.teacher` does.
        ids: of the teachers, in order.
        classes: of each id, what the index says that it knows; nothing where that is left out.
    """

    def __init__(self, load: Callable[[str], T], ids: Sequence[str], classes: Callable[[str], Sequence[str]] = _none):
        self._load, self.ids, self._classes = load, ids, classes

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, key: int) -> T: ...

    @overload
    def __getitem__(self, key: slice) -> "OnDemand[T]": ...

    def __getitem__(self, key: int | slice) -> "T | OnDemand[T]":
        if isinstance(key, slice):
            return OnDemand(self._load, self.ids[key], self._classes)
        return self._load(self.ids[key])

    def knowing(self, class_ids: Collection[str], *, but: str, among: Collection[str] | None = None) -> "OnDemand[T]":
        """Those (``among`` some) that know one of these classes, without the one teacher; none is loaded for it."""
        wanted = set(class_ids)
        ids = [i for i in self.ids if i != but and (among is None or i in among)]
        ids = [i for i in ids if not wanted.isdisjoint(self._classes(i))]
        return OnDemand(self._load, ids, self._classes)
