"""The expected best of k tries, against all ways to draw them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detzoo.metrics.effort import expected_best


def test_by_hand():
    """Of 0 and 1 the best of two draws is 0 in one case of four."""
    found = expected_best([0.0, 1.0])
    np.testing.assert_allclose(found.mean, [0.5, 0.75])
    np.testing.assert_allclose(found.variance, [0.25, 0.75 * 0.25])


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.25001, 0.9]), min_size=1, max_size=5))
def test_every_way_to_draw_with_replacement(scores):
    found = expected_best(scores)
    for k in range(1, len(scores) + 1):
        best = [max(draw) for draw in product(scores, repeat=k)]
        assert found.mean[k - 1] == pytest.approx(np.mean(best), abs=1e-12)
        assert found.variance[k - 1] == pytest.approx(np.var(best), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_more_tries_are_never_worse_and_the_first_is_the_mean(scores):
    mean, variance = expected_best(scores)
    assert mean[0] == pytest.approx(np.mean(scores), abs=1e-12)
    assert (np.diff(mean) >= -1e-12).all() and mean[-1] <= max(scores) + 1e-12
    assert (variance >= 0).all()


@pytest.mark.parametrize("wrong", [[], [0.1, float("nan")], [float("inf")], [[0.1, 0.2]]])
def test_invalid_scores_are_refused(wrong):
    with pytest.raises(ValueError, match="scores must be finite"):
        expected_best(wrong)
