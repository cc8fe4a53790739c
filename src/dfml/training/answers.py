"""Teachers' answers as few numbers: of many classes the largest, and what the rest say together.

A classifier's answer to an image is its logits. Up to `WHOLE` classes they are kept as they are. Of more, the `TOP`
largest are kept with the numbers of their classes, and one logit that stands for all others: at the temperature at
which answers are learned, its exponential is the sum of theirs, so that every kept probability is exact. All numbers
fit half precision: a class number is kept in two, of which one counts by `BASE`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dfml.functional.divergences import grouped_kl_divergence, grouped_log_softmax

WHOLE, TOP, BASE = 100, 32, 2048
NOT_ASKED = -60_000.0  # in the place of an answer: this teacher was not asked about this image


def code_width(classes: int) -> int:
    """Numbers that an answer is kept as."""
    return classes if classes <= WHOLE else 3 * TOP + 1


def code_widths(sizes: Sequence[int]) -> list[int]:
    """Of several classifiers, one after another."""
    return [code_width(classes) for classes in sizes]


def encoded(logits: Float[Tensor, "n classes"], temperature: float) -> Float[Tensor, "n width"]:
    """An answer as it is kept."""
    if logits.shape[1] <= WHOLE:
        return logits
    logits = logits - logits.amax(-1, keepdim=True)  # half precision is finest near zero
    top, places = logits.topk(TOP, -1)
    others = logits.scatter(-1, places, -torch.inf) / temperature
    rest = temperature * others.logsumexp(-1, keepdim=True)
    return torch.cat([top, rest, (places // BASE).to(top.dtype), (places % BASE).to(top.dtype)], -1)


def not_asked(n: int, classes: int, device: torch.device) -> Float[Tensor, "n width"]:
    """In the place of an answer."""
    return torch.full((n, code_width(classes)), NOT_ASKED, device=device)


def was_asked(kept: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Where a kept number is not that of `not_asked`."""
    return kept > NOT_ASKED / 2


def coded_divergence(
    coded: Float[Tensor, "n width"],
    given: Float[Tensor, "n outputs"],
    sizes: Sequence[int],
    *,
    temperature: float,
    all_asked: bool = True,
) -> Float[Tensor, ""]:
    """Mean KL divergence of several classifiers' answers from the logits given in their place (Hinton et al. 2015).

    Times the squared temperature, so that gradients keep their size.

    Args:
        coded: what `encoded` made of the answers, one classifier after another.
        given: logits in their place.
        sizes: classes of each classifier.
        temperature: of both.
        all_asked: False where some places hold `not_asked`, which are left out of the mean.
    """
    t = temperature
    if max(sizes) <= WHOLE and all_asked:
        return t**2 * grouped_kl_divergence(coded / t, given / t, sizes)
    if max(sizes) <= WHOLE:
        return t**2 * _of_those_asked(coded, given, sizes, t)
    total, count = given.new_zeros(()), given.new_zeros(())
    parts = zip(coded.split(code_widths(sizes), -1), given.split(list(sizes), -1), strict=True)
    for kept, logits in parts:
        asked = was_asked(kept[:, 0])
        divergence = (
            _divergence(kept / t, logits / t, kept) if logits.shape[1] > WHOLE else _whole(kept / t, logits / t)
        )
        total = total + divergence.where(asked, torch.zeros_like(divergence)).sum()
        count = count + asked.sum()
    return t**2 * total / count.clamp(min=1)


def _of_those_asked(
    coded: Float[Tensor, "n outputs"], given: Float[Tensor, "n outputs"], sizes: Sequence[int], temperature: float
) -> Float[Tensor, ""]:
    """`grouped_kl_divergence` over the answers that were given."""
    asked = was_asked(coded).to(given.dtype)
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    teacher, student = (grouped_log_softmax(each / temperature, sizes) for each in (coded, given))
    return (asked * teacher.exp() * (teacher - student)).sum() / asked[:, firsts].sum().clamp(min=1)


def _whole(teacher: Tensor, student: Tensor) -> Float[Tensor, " n"]:
    teacher, student = F.log_softmax(teacher, -1), F.log_softmax(student, -1)
    return (teacher.exp() * (teacher - student)).sum(-1)


def _divergence(scaled: Tensor, student: Tensor, kept: Tensor) -> Float[Tensor, " n"]:
    """Over the largest classes, and the rest as one more."""
    teacher = F.log_softmax(scaled[:, : TOP + 1], -1)
    places = (BASE * kept[:, TOP + 1 : 2 * TOP + 1] + kept[:, 2 * TOP + 1 :]).long().clamp(0, student.shape[1] - 1)
    said = F.log_softmax(student, -1)
    top = said.gather(-1, places)
    others: Bool[Tensor, "n classes"] = torch.ones_like(said, dtype=torch.bool).scatter(-1, places, False)
    rest = said.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
    return (teacher.exp() * (teacher - torch.cat([top, rest], -1))).sum(-1)
