"""What a task asks of a network: the diagonal of its Fisher information, and how alike two tasks are by it."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, vmap

from dfml.functional.inner import Parameters

AT_ONCE = 2**22  # numbers of per-image gradients that are held at once


def diagonal_fisher(
    log_likelihood: Callable[[Parameters, Tensor, Tensor], Tensor],
    parameters: Parameters,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
) -> Parameters:
    """F_k = mean_i (d log p(y_i | x_i) / d w_k)^2: each image's own gradient is squared, then the mean is taken.

    The square of a batch's mean gradient is another number: it falls to zero where the network fits the batch.

    Args:
        log_likelihood: parameters, one image and its label to log p(label | image).
        parameters: tensors by name.
        images: of the task.
        labels: as ``log_likelihood`` takes them.
    """

    def squares(image: Tensor, label: Tensor) -> Parameters:
        return {k: g**2 for k, g in grad(log_likelihood)(parameters, image, label).items()}

    total = {k: torch.zeros_like(p) for k, p in parameters.items()}
    batch = max(1, min(len(images), AT_ONCE // sum(p.numel() for p in parameters.values())))
    for some, theirs in zip(images.split(batch), labels.split(batch), strict=True):
        for k, square in vmap(squares)(some, theirs).items():
            total[k] += square.sum(0)
    return {k: t / len(images) for k, t in total.items()}


def by_filter(fisher: Parameters) -> list[Float[Tensor, " _"]]:
    """The mean over each filter's weights, tensor by tensor (Achille et al., ICCV 2019, "Task2Vec")."""
    return [f.flatten(1).mean(1) if f.ndim > 1 else f for f in fisher.values()]


def task_similarity(embeddings: Float[Tensor, "tasks numbers"], sizes: Sequence[int]) -> Float[Tensor, "tasks tasks"]:
    """Cosine of F_a / (F_a + F_b) and F_b / (F_a + F_b), mean over the network's tensors; 0 to 1, and 1 of a = b.

    The division makes every number count alike, however large its Fisher information is (as in Task2Vec).

    Args:
        embeddings: of each task the numbers of `by_filter`, one tensor after another.
        sizes: how many numbers belong to each tensor.
    """
    tensor_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(embeddings.device)
    sums = torch.nn.functional.one_hot(tensor_of, len(sizes)).to(embeddings.dtype)
    tiny = torch.finfo(embeddings.dtype).tiny
    rows = []
    for one in embeddings:
        both = (one + embeddings).clamp(min=tiny)
        a, b = one / both, embeddings / both
        lengths = ((a**2) @ sums * ((b**2) @ sums)).sqrt()
        rows.append(((a * b) @ sums / lengths.clamp(min=tiny)).mean(1))
    return torch.stack(rows)
