"""Random shifts and flips, per sample and differentiable."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def shift_and_flip(
    images: Float[Tensor, "n c h w"],
    generator: torch.Generator,
    *,
    shift: int = 4,
    flip: bool = True,
    per_sample: bool = True,
) -> Float[Tensor, "n c h w"]:
    """Pad by ``shift`` pixels, crop back at a random place, and mirror half of the images if ``flip``.

    Edges are repeated: with zeros, recovered images grow a dark frame of the padding's width.

    Args:
        images: the batch; gradients pass through.
        generator: a CPU generator.
        shift: largest shift in pixels.
        flip: mirror left-right with probability one half.
        per_sample: a draw of its own for every image; False takes one draw for the batch, as the published code does.
    """
    n, c, h, w = images.shape
    draws = n if per_sample else 1
    dy, dx = torch.randint(0, 2 * shift + 1, (2, draws, 1), generator=generator).to(images.device)
    rows = (torch.arange(h, device=images.device) + dy).expand(n, h)
    columns = torch.arange(w, device=images.device)
    if flip:
        mirror = torch.rand(draws, 1, generator=generator).to(images.device) < 0.5
        columns = torch.where(mirror, w - 1 - columns, columns)
    columns = (columns + dx).expand(n, w)
    index = rows[:, :, None] * (w + 2 * shift) + columns[:, None, :]
    padded = F.pad(images, (shift,) * 4, mode="replicate").flatten(2)
    return padded.gather(2, index.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)
