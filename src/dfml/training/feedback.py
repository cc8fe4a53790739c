"""Whether tasks are still worth learning from, as the training accuracy says."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Feedback:
    """What the learner's training accuracy says about its tasks: whether they are still worth learning from.

    Args:
        best: accuracy since the last adversarial step.
        waited: meta-batches since then that did not beat it.
    """

    best: float = -1.0
    waited: int = 0

    def hear(self, accuracy: float) -> None:
        """Of one more meta-batch."""
        self.waited = 0 if accuracy > self.best else self.waited + 1
        self.best = max(self.best, accuracy)

    def reset(self) -> None:
        """After an adversarial step."""
        self.best, self.waited = -1.0, 0

    def to(self, device: torch.device) -> None:
        """Two numbers stay where they are."""

    def state_dict(self) -> dict[str, Any]:
        """Both numbers."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.best, self.waited = state["best"], state["waited"]
