"""Linear heads on frozen features, in dual form: what they need of the support is the kernel of its features.

A head answers ``cross @ coefficients + bias``, where ``cross`` holds the inner products of queries and support. Kernels
of several networks add up, so an ensemble of any size needs the memory of one.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def centroid_coefficients(
    kernel: Float[Tensor, "*episodes n n"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "*episodes n way"], Float[Tensor, "*episodes way"]]:
    """Nearest class means: ``2 f.c - |c|^2``, minus the squared distance up to a term that the classes share.

    A mean of n images lies nearer to the origin than one of fewer, and would attract more queries: its squared length
    is too large by var / n. Where shots are uneven this is taken off, with the variance of all classes around their
    means, so that every class stands at the length of its true mean.

    Args:
        kernel: inner products of the support's features.
        labels: 0..way-1; shots may be uneven.
    """
    onehot = F.one_hot(labels).to(kernel.dtype)
    shots = onehot.sum(0)
    means = onehot / shots
    lengths = (means * (kernel @ means)).sum(-2)
    if len(set(shots.tolist())) > 1:
        scatter = kernel.diagonal(dim1=-2, dim2=-1).sum(-1) - (shots * lengths).sum(-1)
        lengths = lengths - scatter[..., None] / (shots - 1).sum() / shots
    return (2 * means).expand(*kernel.shape[:-1], -1), -lengths


def ridge_coefficients(
    kernel: Float[Tensor, "*episodes n n"], labels: Int[Tensor, " n"], *, penalty: float = 1.0
) -> tuple[Float[Tensor, "*episodes n way"], Float[Tensor, "*episodes way"]]:
    """Ridge regression of one-hot labels, without intercept (Bertinetto et al., ICLR 2019, equation 5).

    Every class weighs the same, however many images show it: an image's error is divided by its class's share.

    Args:
        kernel: inner products of the support's features.
        labels: 0..way-1; shots may be uneven.
        penalty: of the squared weights, as a multiple of the features' mean squared length.
    """
    onehot = F.one_hot(labels).to(kernel.dtype)
    share = onehot.sum(0)[labels] * onehot.shape[1] / len(labels)
    length = kernel.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    coefficients = torch.linalg.solve(kernel + penalty * length * share.diag(), onehot.expand(*kernel.shape[:-1], -1))
    return coefficients, kernel.new_zeros(*kernel.shape[:-2], onehot.shape[1])


def leave_one_out(
    kernel: Float[Tensor, "n n"], labels: Int[Tensor, " n"], *, penalty: float = 1.0
) -> Float[Tensor, "n way"]:
    """What ridge regression (`ridge_coefficients`) answers for each image of the support from all others.

    In closed form, from one inverse: Rifkin, Lippert 2007, "Notes on Regularized Least Squares", theorem 1.
    """
    onehot = F.one_hot(labels).to(kernel.dtype)
    share = onehot.sum(0)[labels] * onehot.shape[1] / len(labels)
    inverse = torch.linalg.inv(kernel + penalty * kernel.diagonal().mean() * share.diag())
    return onehot - (inverse @ onehot) / inverse.diagonal()[:, None]


def logistic_coefficients(
    kernel: Float[Tensor, "*episodes n n"], labels: Int[Tensor, " n"], *, penalty: float = 0.003, steps: int = 100
) -> tuple[Float[Tensor, "*episodes n way"], Float[Tensor, "*episodes way"]]:
    """Multinomial logistic regression, without intercept: mean cross-entropy + penalty / 2 squared weights.

    Features are scaled to a mean squared length of 1 and every class weighs the same. Accelerated gradient descent
    (Nesterov's, for strongly convex functions), whose step size follows from the features' length.

    Args:
        kernel: inner products of the support's features.
        labels: 0..way-1; shots may be uneven.
        penalty: of the squared weights.
        steps: of the descent.
    """
    onehot = F.one_hot(labels).to(kernel.dtype)
    weights = (1 / onehot.sum(0)[labels] / onehot.shape[1])[:, None]
    length = kernel.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    unit, step = kernel / length, 1 / (0.5 + penalty)
    momentum = (1 - (step * penalty) ** 0.5) / (1 + (step * penalty) ** 0.5)
    ahead = coefficients = onehot.new_zeros(*kernel.shape[:-1], onehot.shape[1])
    for _ in range(steps):
        gradient = weights * ((unit @ ahead).softmax(-1) - onehot) + penalty * ahead
        before, coefficients = coefficients, ahead - step * gradient
        ahead = coefficients + momentum * (coefficients - before)
    return coefficients / length, kernel.new_zeros(*kernel.shape[:-2], onehot.shape[1])


def self_trained_ridge(
    kernel: Float[Tensor, "images images"], labels: Int[Tensor, " n"], *, scale: float = 5.0, rounds: int = 15
) -> Float[Tensor, "q way"]:
    """Transductive ridge regression: refit on support and queries, the queries' labels being its own probabilities.

    Features are first centred on the task and brought to unit length: what all images of a task share tells no classes
    apart.

    Args:
        kernel: inner products of the features of the support, then of the queries.
        labels: of the support, 0..way-1.
        scale: of the answers, for probabilities.
        rounds: how often labels are guessed anew.
    """
    n = len(labels)
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    length = centred.diagonal().clamp(min=1e-12).sqrt()
    centred = centred / length / length[:, None]
    known = F.one_hot(labels).to(kernel.dtype)
    coefficients, _ = ridge_coefficients(centred[:n, :n], labels)
    answers = centred[n:, :n] @ coefficients
    refit = centred[n:] @ torch.linalg.inv(centred + torch.eye(len(kernel)).to(kernel))
    for _ in range(rounds):
        answers = refit @ torch.cat([known, (scale * answers).softmax(-1)])
    return answers
