"""What teachers see in an image, beside what they answer: their features as a student learns them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.randomness import Rng
from dfml.training.answers import was_asked


class Sight(nn.Module):
    """A student's linear head for the features of teachers, and what it learns.

    Networks of any width are learned alike: of each teacher's features so many random projections are kept
    (distances survive them: Johnson and Lindenstrauss 1984), and learned at zero mean and unit variance.

    Args:
        ids: the teachers whose features can be seen; none makes a head that says nothing.
        numbers: projections of each.
        width: of the layer under the head.
    """

    def __init__(self, ids: Sequence[str], numbers: int, width: int):
        super().__init__()
        self.ids, self.numbers, self.width = list(ids), numbers, len(ids) * numbers
        self.head = nn.Linear(width, self.width) if self.width else None
        self._directions: dict[str, Tensor] = {}  # of each teacher, drawn when it is first asked
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(self.width), persistent=False)
        self.register_buffer("std", torch.ones(self.width), persistent=False)

    def projected(self, name: str, features: Float[Tensor, "n features"]) -> Float[Tensor, "n numbers"]:
        """A teacher's features, shorter; always by the same directions."""
        if name not in self._directions:
            generator = Rng(0).generator("sight", name)
            self._directions[name] = torch.randn(features.shape[1], self.numbers, generator=generator)
        return features @ self._directions[name].to(features) / features.shape[1] ** 0.5

    def measure(self, kept: Float[Tensor, "n numbers"]) -> None:
        """Take over mean and deviation of what teachers saw in some images; not of those not asked."""
        asked = was_asked(kept)
        count = asked.sum(0).clamp(min=1)
        values = kept.where(asked, torch.zeros_like(kept))
        self.mean = values.sum(0) / count
        squares = ((values - self.mean) ** 2).where(asked, torch.zeros_like(kept))
        self.std = (squares.sum(0) / count).sqrt().clamp(min=1e-6)

    def forward(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n numbers"]:
        """What the student takes the teachers to see."""
        return self.head(hidden) if self.head is not None else hidden[:, :0]

    def error(self, kept: Float[Tensor, "n numbers"], given: Float[Tensor, "n numbers"]) -> Float[Tensor, ""]:
        """Mean squared error over what was asked, in deviations; zero where nothing was."""
        asked = was_asked(kept)
        wanted = ((kept - self.mean) / self.std).where(asked, given.detach())
        return ((given - wanted) ** 2).sum() / asked.sum().clamp(min=1)
