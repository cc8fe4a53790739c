"""The images of a support that an image resembles most: the reason for an answer."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfml.learners.base import Predictor, embed
from dfml.nn import Encoder

TOGETHER = 128  # images that the networks look at at once


@torch.no_grad()
def directions(predictor: Predictor, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """What the adapted networks see in images in [0, 1], as vectors of length 1."""
    encoders = cast(list[Encoder], list(predictor.encoders))
    return torch.cat([F.normalize(embed(encoders, part), dim=-1) for part in images.split(TOGETHER)])


def nearest(
    seen: Float[Tensor, "n d"], known: Float[Tensor, "m d"], count: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """For each image the most alike of those that are known, by `directions`.

    Returns:
        Their indices, ``count`` or all there are, and their similarities, from -1 to 1: the cosine.
    """
    similarity, index = (seen @ known.T).topk(min(count, len(known)))
    return index, similarity.clamp(-1, 1)
