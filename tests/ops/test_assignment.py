from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detzoo.ops.assignment import assign_batch, solve_assignment

SHAPES = st.tuples(st.integers(0, 4), st.integers(0, 4))
FEW = st.integers(-3, 3).map(float)  # few values, so that many tie


def least_sum(cost: np.ndarray) -> float:
    """By trying everything."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    rows = range(cost.shape[0])
    choices = permutations(range(cost.shape[1]), cost.shape[0])
    return min(sum(cost[r, c] for r, c in zip(rows, choice, strict=True)) for choice in choices)


def test_an_example_by_hand():
    """Row 0 would rather have column 0, but row 1 needs it more."""
    rows, columns = solve_assignment(np.array([[1.0, 2, 9], [1.0, 8, 9]]))
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]


@given(arrays(float, SHAPES, elements=FEW))
def test_no_other_choice_is_cheaper(cost):
    rows, columns = solve_assignment(cost)
    assert len(rows) == len(set(rows)) == len(set(columns)) == min(cost.shape)
    assert (np.diff(rows) > 0).all()
    assert cost[rows, columns].sum() == pytest.approx(least_sum(cost))


@pytest.mark.parametrize("shape", [(1, 300), (20, 100), (60, 300), (50, 50), (40, 7)])
def test_the_sum_is_scipy_s_optimum(shape):
    optimize = pytest.importorskip("scipy.optimize")
    for seed in range(3):
        cost = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        rows, columns = solve_assignment(cost)
        best = cost[optimize.linear_sum_assignment(cost)].sum()
        assert cost[rows, columns].sum() == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        solve_assignment(np.array([[0.0, value]]))


def test_a_batch_of_problems_literally():
    """Two images, three columns; the second image's last row takes no part, and nan counts as 0."""
    cost = torch.tensor([[[[1.0, 1], [2, 8], [9, 9]], [[5.0, -9], [float("nan"), -9], [7, -9]]]])
    real = torch.tensor([[True, True], [True, False]])
    assert assign_batch(cost, real).tolist() == [[[1, 0], [1, -1]]]
    assert assign_batch(cost.repeat(2, 1, 1, 1), real).shape == (2, 2, 2)
    assert assign_batch(cost[:, :, :1], real).tolist() == [[[0, -1], [0, -1]]]  # one for two
