"""A network that gives the weights of another one."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ChunkedHypernetwork(nn.Module):
    """One small network gives a long vector piece by piece (von Oswald et al., ICLR 2020, "Continual learning with
    hypernetworks", section 2.2): a learned code for each piece, beside the embedding of what is wanted, is its input.

    Args:
        outputs: length of the vector.
        embedding: length of an embedding.
        chunk: numbers of a piece.
        hidden: units of each of the two hidden layers.
    """

    def __init__(self, outputs: int, *, embedding: int, chunk: int, hidden: int):
        super().__init__()
        self.outputs = outputs
        self.codes = nn.Parameter(torch.randn(-(-outputs // chunk), embedding))
        layers = [nn.Linear(2 * embedding, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, chunk))

    def forward(self, embeddings: Float[Tensor, "n embedding"]) -> Float[Tensor, "n outputs"]:
        """A vector for each embedding."""
        n, pieces = len(embeddings), len(self.codes)
        asked = torch.cat([embeddings[:, None].expand(n, pieces, -1), self.codes.expand(n, pieces, -1)], -1)
        return self.layers(asked).flatten(1)[:, : self.outputs]
