from __future__ import annotations

import numpy as np
import pytest

from detzoo.metrics.calibration import d_ece, laece0, reliability
from detzoo.metrics.matching import arrays

from .problems import box, find, truth


def test_bins_by_hand():
    """(0.1, 0.3) have mean 0.2 and achieve 0.5; 1 is in the last bin: (2 * 0.3 + 1 * 1) / 3."""
    found = reliability(np.array([0.1, 0.3, 1.0]), np.array([1.0, 0.0, 0.0]), bins=2)
    assert found.count.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([0.2, 1])
    assert found.achieved.tolist() == [0.5, 0]
    assert found.error == pytest.approx(1.6 / 3)
    empty = reliability(np.zeros(0), np.zeros(0), bins=3)
    assert empty.error is None and np.isnan(empty.achieved).all()
    assert reliability(np.array([0.9]), np.array([0.9]), bins=10).error == pytest.approx(0)


BOXES = [
    box(1, 0, 1, [0, 0, 100, 100]),
    box(2, 0, 2, [0, 0, 100, 100]),
    box(3, 1, 1, [0, 0, 50, 50], crowd=1),
]
FOUND = [
    find(0, 1, [0, 0, 100, 80], 0.9),  # IoU 0.8
    find(0, 1, [0, 0, 100, 90], 0.7),  # the box is taken: wrong, IoU 0
    find(0, 2, [0, 0, 100, 20], 0.5),  # IoU 0.2: wrong at 0.5, right at 0
    find(1, 1, [0, 0, 9, 9], 0.99),  # on the crowd, which does not count
]


def test_d_ece_by_hand():
    """In separate bins: |0.9 - 1|, |0.7 - 0|, |0.5 - 0|, a third each."""
    found = d_ece(arrays(truth(BOXES), FOUND), bins=10)
    assert found.error == pytest.approx((0.1 + 0.7 + 0.5) / 3)
    assert found.count.sum() == 3
    assert d_ece(arrays(truth(BOXES), []), bins=10).error is None


def test_laece0_by_hand():
    """Class a: (|0.9 - 0.8| + |0.7 - 0|) / 2 = 0.4; class b: |0.5 - 0.2| = 0.3; mean 0.35."""
    found = laece0(arrays(truth(BOXES), FOUND), bins=10)
    assert [of.error for of in found.per_class] == pytest.approx([0.4, 0.3])
    assert found.error == pytest.approx(0.35)
    assert found.pooled.error == pytest.approx((0.1 + 0.7 + 0.3) / 3)


def test_a_class_without_boxes_is_no_answer():
    found = laece0(arrays(truth(BOXES[:1]), FOUND[:3]), bins=10)
    assert found.per_class[1] is None and found.error == pytest.approx(0.4)
    assert found.pooled.count.sum() == 2
    nothing = laece0(arrays(truth([]), FOUND), bins=10)
    assert nothing.error is None and nothing.per_class == [None, None]


def test_only_scores_from_the_threshold_on_count():
    problem = arrays(truth(BOXES), FOUND).above(0.7)
    assert d_ece(problem, bins=10).error == pytest.approx((0.1 + 0.7) / 2)
