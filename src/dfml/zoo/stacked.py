"""Several teachers of one architecture as one network: grouped convolutions in the place of a loop.

A GPU is busy with all teachers at once; a CPU is faster with one after the other (measured: benchmarks).
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.functional.priors import BatchNormStatistics, batch_moments
from dfml.nn.conv4 import Conv4
from dfml.nn.description import describe
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import Counted, local


def can_stack(teachers: Sequence[Teacher]) -> bool:
    """Whether these are Conv4 teachers of one description with one input and as many classes."""
    networks = [own.network for t in teachers if (own := local(t))]
    if len(networks) < len(teachers) or not all(isinstance(n.backbone, Conv4) for n in networks):
        return False
    kinds = [(describe(n.backbone), n.classes) for n in networks]
    return kinds.count(kinds[0]) == len(kinds) and len({t.card.input_spec for t in teachers}) == 1


class StackedTeachers:
    """Frozen Conv4 teachers, their weights side by side.

    Args:
        teachers: of one width, input and number of classes (`can_stack`); those that count go on counting.
    """

    def __init__(self, teachers: Sequence[Teacher]):
        self.device, self.spec = teachers[0].device, teachers[0].card.input_spec
        self.tallies = [(t.tally, t.card.id) for t in teachers if isinstance(t, Counted)]
        networks = [own.network for t in teachers if (own := local(t))]
        blocks = [cast(Conv4, n.backbone).blocks for n in networks]
        self.blocks: list[tuple[Tensor, Tensor, list[Tensor], float]] = []
        for i in range(0, len(blocks[0]), 4):  # convolution, BatchNorm, pooling, ReLU
            convolutions, norms = [b[i] for b in blocks], [b[i + 1] for b in blocks]
            weight, bias = (torch.cat([getattr(c, name) for c in convolutions]) for name in ("weight", "bias"))
            norm = [
                torch.cat([getattr(n, k) for n in norms]) for k in ("running_mean", "running_var", "weight", "bias")
            ]
            self.blocks.append((weight, bias, norm, cast(float, norms[0].eps)))
        heads = [cast(nn.Linear, n.head) for n in networks]
        self.head = torch.stack([head.weight for head in heads])
        self.head_bias = torch.stack([head.bias for head in heads])

    def logits(
        self, images: Float[Tensor, "teachers n c h w"]
    ) -> tuple[Float[Tensor, "teachers n classes"], list[list[BatchNormStatistics]]]:
        """Each teacher's logits of its own images in [0, 1], and for each teacher its layers' BatchNorm statistics."""
        teachers, n = images.shape[:2]
        for tally, teacher in self.tallies:
            tally.add(teacher, n)
        x = (
            self.spec.normalise(self.spec.fit(images.flatten(0, 1)))
            .unflatten(0, (teachers, n))
            .transpose(0, 1)
            .flatten(1, 2)
        )
        statistics: list[list[BatchNormStatistics]] = [[] for _ in range(teachers)]
        for weight, bias, (mean, variance, scale, shift), eps in self.blocks:
            x = F.conv2d(x, weight, bias, padding=1, groups=teachers)
            seen = zip(*(v.chunk(teachers) for v in (*batch_moments(x), mean, variance)), strict=True)
            for mine, values in zip(statistics, seen, strict=True):
                mine.append(BatchNormStatistics(*values))
            factor = scale * (variance + eps).rsqrt()
            x = torch.addcmul((shift - mean * factor)[:, None, None], x, factor[:, None, None])
            x = F.relu(F.max_pool2d(x, 2))
        features = x.unflatten(1, (teachers, -1)).transpose(0, 1).flatten(2)
        return torch.baddbmm(self.head_bias[:, None], features, self.head.mT), statistics
