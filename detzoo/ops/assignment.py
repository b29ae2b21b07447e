"""The assignment problem: which column for which row, so that the sum of costs is least."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def solve_assignment(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, C) -> row and column indices, each (min(R, C),) int64, rows ascending.

    Every row (in a tall matrix every column) has its own partner, and no other choice has a smaller
    sum. By shortest augmenting paths (Crouse, IEEE Transactions on Aerospace and Electronic Systems
    52 (2016)), O(R^2 C). Raises ValueError for a cost that is not finite.
    """
    cost = np.asarray(cost, dtype=np.float64)
    if not np.isfinite(cost).all():
        raise ValueError("a cost of the assignment is not finite")
    if cost.shape[0] > cost.shape[1]:
        columns, rows = solve_assignment(cost.T)
        order = rows.argsort()
        return rows[order], columns[order]
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)  # the dual variables
    owner = np.full(columns, -1)  # of each column, its row
    partner = np.full(rows, -1)  # of each row, its column
    for row in range(rows):
        shortest, previous = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, bool)
        current, length = row, 0.0
        while current >= 0:  # extend the shortest path, until it ends in a column that is free
            reached = length + cost[current] - row_price[current] - column_price
            nearer = ~done & (reached < shortest)
            shortest[nearer], previous[nearer] = reached[nearer], current
            column = int(np.where(done, np.inf, shortest).argmin())
            length, current = shortest[column], owner[column]
            done[column] = True
        row_price[row] += length
        change = length - shortest[done]  # 0 at the last column
        taken = owner[done]
        row_price[taken[taken >= 0]] += change[taken >= 0]
        column_price[done] -= change
        while True:  # along the path back, every row takes the column that it led to
            former = previous[column]
            owner[column] = former
            partner[former], column = column, partner[former]
            if former == row:
                break
    return np.arange(rows), partner


def assign_batch(cost: Tensor, real: Tensor) -> Tensor:
    """(L, B, N, M) costs -> (L, B, M) int64: which of N is assigned to each of M; -1: none.

    real: (B, M) bool, which take part; at most N of them are assigned. A NaN cost counts as 0, and
    an infinite one as large. All problems are copied to the host at once, and solved there one by
    one.
    """
    layers, batch = cost.shape[:2]
    single = real.expand(layers, -1, -1)[..., None]  # beside them, to wait once
    table = torch.cat([cost.nan_to_num().mT, single], 3).cpu().numpy()  # (L, B, M, N + 1)
    chosen = torch.full(table.shape[:3], -1)
    for layer in range(layers):
        for image in range(batch):
            objects = table[0, image, :, -1].nonzero()[0]
            rows, columns = solve_assignment(table[layer, image, objects, :-1])
            chosen[layer, image, objects[rows]] = torch.from_numpy(columns)
    return chosen.to(cost.device, non_blocking=True)
