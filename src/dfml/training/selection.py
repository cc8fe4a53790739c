"""Which models of a zoo to learn from, learned itself: from how well the learner does after them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dfml.functional.plackett_luce import plackett_luce_draw, plackett_luce_log_likelihood

BASELINE_DECAY = 0.8  # of the reward that a choice is compared with


class SelectionPolicy:
    """One logit a model; models are drawn without replacement, as likely as the softmax of those that are left.

    REINFORCE (Williams, Machine Learning 1992): a choice becomes likelier when its reward is above the running mean of
    rewards. It stays on the CPU, whatever the run's device.

    Args:
        models: how many the zoo has; they are known by their numbers.
        lr: Adam's step size on the logits.
    """

    def __init__(self, models: int, *, lr: float):
        self.logits = torch.zeros(models, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.logits], lr=lr)
        self.baseline: float | None = None

    def draw(self, among: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
        """Numbers of so many of these models, or of all, in the order of their drawing."""
        order = plackett_luce_draw(self.logits.detach()[list(among)], count, generator)
        return [among[i] for i in order.tolist()]

    def probabilities(self, among: Sequence[int]) -> Tensor:
        """Of each of these models to be drawn first."""
        return self.logits.detach()[list(among)].softmax(-1)

    def learn(self, drawn: Sequence[int], among: Sequence[int], reward: float) -> float:
        """One step up (reward - baseline) grad log P(drawn); the first reward is its own baseline.

        Args:
            drawn: what `draw` gave.
            among: what it was asked for, unchanged.
            reward: of the choice.

        Returns:
            What the reward had over the baseline.
        """
        advantage = reward - (reward if self.baseline is None else self.baseline)
        place = {model: i for i, model in enumerate(among)}
        order = torch.tensor([place[model] for model in drawn])
        likelihood = plackett_luce_log_likelihood(self.logits[list(among)], order)
        self.optimiser.zero_grad()
        (-advantage * likelihood).backward()
        self.optimiser.step()
        self.baseline = reward - BASELINE_DECAY * advantage
        return advantage

    def to(self, device: torch.device) -> None:
        """It stays where it is."""

    def state_dict(self) -> dict[str, Any]:
        """Logits, Adam's moments and the baseline."""
        return {
            "logits": self.logits.detach(),
            "optimiser": self.optimiser.state_dict(),
            "baseline": self.baseline,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.logits.detach().copy_(state["logits"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.baseline = state["baseline"]
