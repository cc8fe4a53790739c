"""Networks of one architecture, their channels brought into a common order.

A network computes the same function when the channels of a layer change places, if everything that reads them follows.
``Units`` name the tensors that hold one such set of channels: those that write it, along their first dimension, and
those that read it, along their second.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.errors import NotFinite
from dfml.functional.inner import Parameters

Units = tuple[Sequence[str], Sequence[str]]


def assignment(cost: Float[Tensor, "n n"]) -> Int[Tensor, " n"]:
    """The column of each row in the pairing of least total cost (Kuhn 1955, by shortest augmenting paths).

    It is the optimal transport between uniform marginals over equally many points: a corner of the transport polytope.

    Raises:
        NotFinite: a cost that is no number.
    """
    costs = cost.detach().cpu().double().numpy()
    if not np.isfinite(costs).all():
        raise NotFinite("distances of units that are NaN or infinite")
    n = len(costs)
    row_price, column_price = np.zeros(n), np.zeros(n)  # no cost is below the sum of its prices; pairs are at it
    row_of = np.full(n, -1)
    for start in range(n):
        length, came_from, reached = np.full(n, np.inf), np.full(n, -1), np.zeros(n, dtype=bool)
        row, passed = start, 0.0
        while True:  # Dijkstra over columns, until one is free
            through = passed + costs[row] - row_price[row] - column_price
            shorter = ~reached & (through < length)
            length[shorter], came_from[shorter] = through[shorter], row
            column = int(np.where(reached, np.inf, length).argmin())
            passed = length[column]
            if row_of[column] < 0:
                break
            reached[column], row = True, row_of[column]
        row_price[start] += passed
        row_price[row_of[reached]] += passed - length[reached]
        column_price[reached] -= passed - length[reached]
        _augment(row_of, came_from, start, column)
    columns = np.empty(n, dtype=np.int64)
    columns[row_of] = np.arange(n)
    return torch.from_numpy(columns)


def _augment(row_of: np.ndarray, came_from: np.ndarray, start: int, column: int) -> None:
    """Along the path that ends at a free column, every row takes the next column."""
    while True:
        row = int(came_from[column])
        before = np.flatnonzero(row_of == row)
        row_of[column] = row
        if row == start:
            return
        column = int(before[0])


def unit_distances(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Float[Tensor, "n n"]:
    """Euclidean distances of all pairs of units, by their incoming weights (all tensors' rows, one after another)."""
    a, b = (torch.cat([t.flatten(1) for t in tensors], 1).double() for tensors in (ours, theirs))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def permuted(parameters: Parameters, units: Units, order: Int[Tensor, " n"]) -> Parameters:
    """The same network with these units in another order: unit i of the result was unit ``order[i]``."""
    writes, reads = units
    moved = dict(parameters)
    for name in writes:
        moved[name] = moved[name][order]
    for name in reads:
        moved[name] = moved[name][:, order]
    return moved


def reordered(parameters: Parameters, groups: Sequence[Units], orders: Sequence[Int[Tensor, " _"]]) -> Parameters:
    """`permuted`, group after group."""
    for units, order in zip(groups, orders, strict=True):
        parameters = permuted(parameters, units, order)
    return parameters


def matching(parameters: Parameters, anchor: Parameters, groups: Sequence[Units]) -> list[Int[Tensor, " _"]]:
    """Orders that bring a network's units next to those of ``anchor`` (Singh, Jaggi, NeurIPS 2020, algorithm 1).

    Group after group, from the images on: a group is compared by those of its incoming weights whose own inputs stand
    in the anchor's order already.

    Args:
        parameters: of the network, by name.
        anchor: of the network whose order counts.
        groups: of the architecture, inputs before what reads them.
    """
    orders: list[Tensor] = []
    for number, (writes, _) in enumerate(groups):
        later = {name for _, reads in groups[number:] for name in reads}
        compared = [name for name in writes if parameters[name].ndim > 1 and name not in later]
        distances = unit_distances([anchor[n] for n in compared], [parameters[n] for n in compared])
        orders.append(assignment(distances))
        parameters = permuted(parameters, groups[number], orders[-1])
    return orders
