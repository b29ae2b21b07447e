"""The value of a search: the expected best score of k trials.

Dodge et al., "Show Your Work" (EMNLP 2019), arXiv:1909.03004, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Expected(NamedTuple):
    """The best of k tries: its expectation and its variance, (n,) float64, for k = 1..n."""

    mean: np.ndarray
    variance: np.ndarray


def expected_best(scores: Sequence[float]) -> Expected:
    """The expected best of k of n `scores`, drawn with replacement, for k = 1..n.

    Exact: P(best of k <= v) = P(score <= v)^k under the empirical distribution of the scores (the
    paper's equation 1), so the best is v with the step of that function at v. The paper takes the
    tries to be independent draws; those of a search that learns from its first ones are not, and
    the curve is then of their scores in random order. ValueError for no or not finite scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"scores must be finite numbers, one or more, got {values!r:.200}")
    levels, counts = np.unique(values, return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(counts) / len(values)])  # P(score < v), and 1
    tries = np.arange(1, len(values) + 1)[:, None]
    chance = np.diff(below[None] ** tries, axis=1)  # (n, levels): that the best of k is this level
    mean = chance @ levels
    variance = (chance * (levels[None] - mean[:, None]) ** 2).sum(1)
    return Expected(mean, variance)
