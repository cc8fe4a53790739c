"""The Plackett-Luce distribution: an order in which items are drawn one after another, without replacement."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def plackett_luce_log_likelihood(logits: Float[Tensor, " items"], order: Int[Tensor, " drawn"]) -> Float[Tensor, ""]:
    """log P(order) = sum_k [w_{s_k} - log sum_{j not in s_1..s_{k-1}} exp w_j].

    Plackett, Applied Statistics 1975, "The analysis of permutations". Differentiable in the logits; independent
    log-softmax terms, as for draws with replacement, would leave out what earlier draws took away.

    Args:
        logits: w, one of each item that may be drawn.
        order: s, the items that were drawn, in that order, none twice.
    """
    drawn = F.one_hot(order, len(logits))
    gone = (drawn.cumsum(0) - drawn).bool()
    left = logits.expand_as(drawn).masked_fill(gone, -torch.inf)
    return (logits[order] - left.logsumexp(-1)).sum()


def plackett_luce_draw(
    logits: Float[Tensor, " items"], count: int, generator: torch.Generator
) -> Int[Tensor, " drawn"]:
    """``count`` items in the order of their drawing, or all of them: the largest of logits plus Gumbel noise.

    Yellott, Journal of Mathematical Psychology 1977: the order of such sums has this distribution, exactly.

    Args:
        logits: one of each item.
        count: items to draw.
        generator: a CPU generator.
    """
    uniform = torch.rand(len(logits), generator=generator, dtype=torch.float64)
    noise = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    return (logits.detach().cpu() + noise).topk(min(count, len(logits))).indices
