"""MAML and ANIL: adapt by gradient steps, on everything or on the head alone."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dfml.bounds import Amount, Count, StepSize
from dfml.episode import Episode, can_stack, stack
from dfml.errors import InputError
from dfml.functional.inner import Parameters, gradient_steps
from dfml.learners.base import AbstractLearner, Predictor, centroid_head, class_means, percent_right
from dfml.learners.calibration import calibrated
from dfml.nn import Encoder, Norm, batch_statistics, check_norm, given_statistics, record_statistics, write_norm

Head = Literal["prototype", "literal"]
Each = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Turns a function of a task into one of several tasks, whose arguments are stacked; `_alone` leaves it as it is."""


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


class MAML(AbstractLearner):
    """Model-agnostic meta-learning (Finn et al., ICML 2017), the head started from the support's prototypes.

    Args:
        encoder: the meta-learned network.
        train_steps: inner steps in training.
        test_steps: inner steps in `adapt`.
        inner_lr: inner step size.
        second_order: differentiate through the inner gradients in training.
        adapts: ``all`` parameters (MAML) or the ``head`` alone (ANIL, Raghu et al., ICLR 2020).
        head: ``prototype`` works for any way, on L2-normalised features; ``literal`` is one learned ``way``-row head.
        way: rows of the literal head.
        norm: BatchNorm in training and for the inductive headline.
        icfil_steps: of PURER's calibration after `adapt`, a reconstruction (`dfml.learners.calibration`); 0: none.
    """

    kind = "maml"

    def __init__(
        self,
        encoder: Encoder,
        *,
        train_steps: Amount = 5,
        test_steps: Amount = 10,
        inner_lr: StepSize = 0.01,
        second_order: bool = True,
        adapts: Literal["all", "head"] = "all",
        head: Head = "prototype",
        way: Amount = 5,
        norm: Norm = "support",
        icfil_steps: Count = 0,
    ):
        super().__init__()
        check_norm(encoder, norm)
        self.encoder, self.adapts, self.norm = encoder, adapts, norm
        self.train_steps, self.test_steps = train_steps, test_steps
        self.inner_lr, self.second_order, self.icfil_steps = inner_lr, second_order, icfil_steps
        self.head = nn.Linear(encoder.feature_size, way) if head == "literal" else None
        self.scale = nn.Parameter(torch.tensor(5.0)) if head == "prototype" else None

    @property
    def networks(self) -> list[Encoder]:
        """See `AbstractLearner.networks`."""
        return [self.encoder]

    @property
    def options(self) -> dict[str, Any]:
        """See `AbstractLearner.options`."""
        names = ("train_steps", "test_steps", "inner_lr", "second_order", "adapts", "norm")
        head = {"head": "prototype"} if self.head is None else {"head": "literal", "way": self.head.out_features}
        newer = {"icfil_steps": self.icfil_steps} if self.icfil_steps else {}  # earlier versions do not know of it
        return {name: getattr(self, name) for name in names} | head | newer

    def _statistics(self, norm: Norm) -> AbstractContextManager:
        return nullcontext() if norm == "running" else batch_statistics(self.encoder)

    def _features(self, parameters: Parameters, images: Tensor) -> Tensor:
        encoder = {k.removeprefix("encoder."): p for k, p in parameters.items() if k.startswith("encoder.")}
        features = functional_call(self.encoder, encoder, (images,)) if encoder else self.encoder(images)
        return features if self.head is not None else F.normalize(features, dim=-1)

    def _start(self, way: int, support_x: Tensor, support_y: Tensor) -> Parameters:
        """The parameters that the inner loop starts from: the head's and, for MAML, the encoder's."""
        encoder: Parameters = {}
        if self.adapts == "all":
            encoder = {f"encoder.{k}": p for k, p in self.encoder.named_parameters()}
        if self.head is not None:
            if way != self.head.out_features:
                raise InputError(
                    f"a {way}-way task for a literal {self.head.out_features}-way head",
                    f"{self.head.out_features} classes",
                    "train with learner.head = prototype, which takes any number of classes",
                )
            return encoder | {"weight": self.head.weight, "bias": self.head.bias}
        centroids = class_means(self._features(encoder, support_x), support_y, way)
        weight, bias = centroid_head(centroids, self.scale)  # type: ignore[arg-type]
        return encoder | {"weight": weight, "bias": bias}

    def _adapted(
        self, start: Parameters, x: Tensor, y: Tensor, *, steps: int, second_order: bool, each: Each = _alone
    ) -> Parameters:
        """The task's parameters after the inner loop, as a function of ``start``; of ``each`` of several tasks."""
        seen = each(partial(self._features, {}))(x) if self.adapts == "head" else x

        def loss(p: Parameters, seen: Tensor, y: Tensor) -> Tensor:
            features = seen if self.adapts == "head" else self._features(p, seen)
            return F.cross_entropy(F.linear(features, p["weight"], p["bias"]), y)

        def total(p: Parameters) -> Tensor:  # the gradient of a sum has each task's own gradient at its parameters
            return each(loss)(p, seen, y).sum()

        return gradient_steps(total, start, steps=steps, lr=self.inner_lr, second_order=second_order)

    @torch.enable_grad()
    def _adapt(self, support_x: Float[Tensor, "n c h w"], support_y: Int[Tensor, " n"], *, norm: Norm) -> Predictor:
        """A predictor with its own adapted copy of the encoder."""
        support_x = self.encoder.spec.fit(support_x)
        own = copy.deepcopy(self)  # modes are switched in the copy alone, so that threads may share a learner
        with own._statistics(norm):
            way = int(support_y.max()) + 1
            start = {k: p.detach().requires_grad_() for k, p in own._start(way, support_x, support_y).items()}
            adapted = own._adapted(start, support_x, support_y, steps=self.test_steps, second_order=False)
        encoder = own.encoder.requires_grad_(False)
        moved = {k.removeprefix("encoder."): p.detach() for k, p in adapted.items() if k.startswith("encoder.")}
        encoder.load_state_dict(moved, strict=False)
        write_norm(encoder.eval(), norm, support_x)
        predictor = Predictor([encoder], adapted["weight"], adapted["bias"], normalise=self.head is None)
        if self.icfil_steps:
            return calibrated(predictor, support_x, support_y, steps=self.icfil_steps)
        return predictor

    def meta_loss(self, episode: Episode) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Query loss after the inner loop; with norm ``support`` queries use the support's, with gradients."""
        images = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
        return self._meta_loss(_alone, episode.way, *images)

    def meta_losses(self, episodes: Sequence[Episode]) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
        """All inner loops side by side, each with parameters of its own."""
        if len(episodes) == 1 or not can_stack(episodes):
            return super().meta_losses(episodes)
        return self._meta_loss(vmap, episodes[0].way, *stack(episodes))

    def _meta_loss(
        self, each: Each, way: int, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        with self._statistics(self.norm):
            start = each(partial(self._start, way))(support_x, support_y)
            adapted = self._adapted(
                start, support_x, support_y, steps=self.train_steps, second_order=self.second_order, each=each
            )
        return each(self._score)(adapted, support_x, query_x, query_y)

    def _score(self, adapted: Parameters, support_x: Tensor, query_x: Tensor, query_y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of a task's queries."""
        inside = self._statistics(self.norm)
        if self.norm == "support":
            with record_statistics(self.encoder) as statistics:
                self._features(adapted, support_x)
            inside = given_statistics(self.encoder, statistics)
        with inside:
            logits = F.linear(self._features(adapted, query_x), adapted["weight"], adapted["bias"])
        return F.cross_entropy(logits, query_y), percent_right(logits, query_y)
