"""Groups of things by how much each has to do with each other."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROUNDS = 100  # of k-means, at most


def spectral_groups(affinity: Float[Tensor, "n n"], groups: int) -> Int[Tensor, " n"]:
    """Groups of high affinity within (Ng, Jordan, Weiss, NIPS 2001, "On Spectral Clustering").

    The leading eigenvectors of D^-1/2 A D^-1/2, rows made unit vectors, then `k_means`. Nothing is drawn at random.

    Args:
        affinity: symmetric, not negative.
        groups: how many.
    """
    affinity = affinity.double()
    root = affinity.sum(1).clamp(min=1e-12).rsqrt()
    _, vectors = torch.linalg.eigh(root[:, None] * affinity * root)
    leading = vectors[:, -groups:]
    return k_means(leading / leading.norm(dim=1, keepdim=True).clamp(min=1e-12), groups)


def k_means(points: Float[Tensor, "n d"], groups: int) -> Int[Tensor, " n"]:
    """Lloyd's algorithm; it starts from the point nearest to the mean, then always the one farthest from all before.

    Args:
        points: to be grouped.
        groups: how many, at most: points that coincide make fewer.
    """
    distance = (points - points.mean(0)).norm(dim=1)
    chosen = [int(distance.argmin())]
    for _ in range(groups - 1):
        chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
    centres, found = points[chosen], torch.full((len(points),), -1, device=points.device)
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        if torch.equal(nearest, found):
            break
        found = nearest
        filled = [g for g in range(groups) if bool((found == g).any())]  # an empty group keeps its centre
        centres = centres.clone()
        for g in filled:
            centres[g] = points[found == g].mean(0)
    return found
