"""How much of its answers a black box tells."""

import re
from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from dfml.errors import InputError
from dfml.functional.rounding import completed, rounded
from dfml.zoo.card import AnswerKind

DECIMALS = 2  # of what is ``rounded``, and of the largest alone


@dataclass(frozen=True)
class Told:
    """What a black box tells.

    Args:
        kind: ``labels``, ``probabilities`` or ``logits``.
        top: so many of the largest probabilities alone; None is all.
        decimals: that probabilities are rounded to; None is all.
    """

    kind: AnswerKind = "probabilities"
    top: int | None = None
    decimals: int | None = None

    @staticmethod
    def named(name: str) -> "Told":
        """``labels``, ``probabilities``, ``rounded`` (to two decimals), or ``top3`` (the three largest, rounded).

        Raises:
            InputError: another name.
        """
        if name in ("labels", "probabilities"):
            return Told(name)  # type: ignore[arg-type]
        if name == "rounded":
            return Told(decimals=DECIMALS)
        if found := re.fullmatch(r"top([1-9]\d{0,3})", name):
            return Told(top=int(found[1]), decimals=DECIMALS)
        raise InputError(f"answers {name!r}", "labels, top3 (or another number), rounded or probabilities", "name one")

    def of(self, answers: Shaped[Tensor, "n ..."], kind: AnswerKind) -> Shaped[Tensor, "n ..."]:
        """What is known of answers of a kind when no more than this is told."""
        if kind != "probabilities" or self.top is self.decimals is None:
            return answers
        return self._known(answers).to(answers)

    def _known(self, probabilities: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
        top = None if self.top is None else min(self.top, probabilities.shape[1])
        return completed(rounded(probabilities, decimals=self.decimals, top=top), decimals=self.decimals)
