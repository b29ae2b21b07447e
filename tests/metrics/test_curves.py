from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.metrics.bootstrap import match
from detzoo.metrics.coco import evaluate
from detzoo.metrics.curves import (
    THRESHOLDS,
    confusion,
    f1,
    lrp,
    mean_lrp,
    precision_recall,
)
from detzoo.metrics.matching import arrays

from .problems import box, find, problem, truth

# Four boxes of class a; in order of score: found, a false alarm, found, a false alarm on nothing.
BOXES = [box(i, 0, 1, [100 * i, 0, 50, 50]) for i in range(4)]
FOUND = [
    find(0, 1, [0, 0, 50, 50], 0.9),
    find(0, 1, [0, 80, 50, 50], 0.8),
    find(0, 1, [100, 0, 50, 40], 0.6),  # IoU 0.8
    find(1, 1, [0, 0, 50, 50], 0.3),
]


def test_precision_and_recall_by_hand():
    """Precision 1 up to recall 1/4, then 2/3 up to 1/2, then nothing: 26 and 25 of 101 recalls."""
    a, b = precision_recall(match(truth(BOXES), FOUND))
    assert b is None
    assert a.precision.tolist() == pytest.approx([1] * 26 + [2 / 3] * 25 + [0] * 50)
    assert a.score.tolist() == [0.9] * 26 + [0.6] * 25 + [0] * 50
    at_90 = precision_recall(match(truth(BOXES), FOUND), row=8)[0]
    assert at_90.precision.tolist() == [1] * 26 + [0] * 75


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_curves_mean_is_ap(seed):
    gt, results = problem(seed, found=30)
    metrics = evaluate(gt, results, backend="pycocotools")["per_class"]
    for curve, of in zip(precision_recall(match(gt, results)), metrics.values(), strict=True):
        if of["AP50"] is None:
            assert curve is None
        else:
            assert curve.precision.mean() == pytest.approx(of["AP50"], abs=1e-12)


def test_f1_by_hand():
    """From 0.9 on one of one, 4 to find: 2/5. From 0.6 on two of three: 4/7. All: 4/8."""
    found = f1(match(truth(BOXES), FOUND))
    at = {round(t, 2): i for i, t in enumerate(THRESHOLDS)}
    expected = {0.95: 0, 0.9: 2 / 5, 0.7: 2 / 6, 0.6: 4 / 7, 0.3: 4 / 8, 0.0: 4 / 8}
    for threshold, value in expected.items():
        assert found.f1[0, at[threshold]] == pytest.approx(value), threshold
    assert np.isnan(found.precision[0, at[0.95]])
    assert found.precision[0, at[0.6]] == pytest.approx(2 / 3)
    assert found.recall[0, at[0.6]] == 0.5
    assert np.isnan(found.f1[1]).all() and np.isnan(found.precision[1]).all()
    np.testing.assert_array_equal(found.mean, found.f1[0])


def test_confusion_by_hand():
    boxes = [
        box(1, 0, 1, [0, 0, 100, 100]),  # found as a, and as b by a better scored detection
        box(2, 0, 1, [200, 0, 100, 100]),  # taken for b, twice
        box(3, 1, 2, [0, 0, 100, 100]),  # found below the score
        box(4, 1, 2, [200, 0, 100, 100], crowd=1),
    ]
    results = [
        find(0, 2, [0, 0, 100, 100], 0.9),
        find(0, 1, [0, 0, 100, 90], 0.8),
        find(0, 2, [200, 0, 100, 100], 0.7),
        find(0, 2, [200, 0, 100, 90], 0.6),
        find(1, 2, [0, 0, 100, 100], 0.4),
        find(1, 2, [210, 10, 50, 50], 0.9),  # on the crowd
        find(1, 1, [0, 300, 10, 10], 0.5),
    ]
    matrix = confusion(arrays(truth(boxes), results), 0.5)
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 1], [1, 2, 0]]
    lower = confusion(arrays(truth(boxes), results), 0.1)
    assert lower.tolist() == [[1, 1, 0], [0, 1, 0], [1, 2, 0]]
    assert confusion(arrays(truth(boxes), []), 0).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]


def test_of_two_wrong_classes_the_better_score_gets_the_box():
    gt = truth([box(1, 0, 3, [0, 0, 9, 9])])
    gt["categories"].append({"id": 3, "name": "c"})
    results = [find(0, 1, [0, 0, 9, 9], 0.5), find(0, 2, [0, 0, 9, 9], 0.9)]
    matrix = confusion(arrays(gt, results), 0)
    assert matrix.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), score=st.sampled_from([0.0, 0.5]))
def test_confusion_counts_every_box_and_detection_once(seed, score):
    gt, results = problem(seed, found=30)
    found = arrays(gt, results)
    matrix = confusion(found, score)
    boxes = np.bincount(found.box_label[~found.crowd], minlength=3)
    assert matrix[:3].sum(axis=1).tolist() == boxes.tolist()
    table = match(gt, results)
    counted = (table.hit | table.miss)[0] & (table.score >= score)
    assert (
        matrix[:, :3].sum(axis=0).tolist()
        == np.bincount(table.label[counted], minlength=3).tolist()
    )
    hits = table.hit[0] & (table.score >= score)
    assert np.diag(matrix)[:3].tolist() == np.bincount(table.label[hits], minlength=3).tolist()
    assert matrix[3, 3] == 0


def test_lrp_by_hand():
    """tau = 1/2, 4 boxes. From 0.9 on: (0 + 0 + 3) / 4 = 0.75. From 0.6 on, with IoU 1 and 0.8:
    (0.2 / 0.5 + 1 + 2) / 5 = 0.68, the least. All: (0.4 + 2 + 2) / 6 = 0.733.
    """
    a, b = lrp(arrays(truth(BOXES), FOUND))
    assert b is None
    assert a.olrp == pytest.approx(0.68) and a.threshold == 0.6
    assert a.localisation == pytest.approx(0.1)
    assert (a.false_positive, a.false_negative) == (pytest.approx(1 / 3), 0.5)
    assert mean_lrp([a, b]) == a.olrp and mean_lrp([None]) is None


def test_lrp_of_all_and_of_nothing():
    whole = [find(0, 1, b["bbox"], 0.5) for b in BOXES]
    perfect = lrp(arrays(truth(BOXES), whole))[0]
    assert (perfect.olrp, perfect.localisation, perfect.false_negative) == (0, 0, 0)
    for results in ([], FOUND[1:2]):
        nothing = lrp(arrays(truth(BOXES), results))[0]
        assert (nothing.olrp, nothing.threshold, nothing.localisation) == (1, None, None)


def test_equal_scores_are_one_threshold():
    """Two hits and a false alarm of one score come together: (0 + 1 + 2) / 5."""
    results = [find(0, 1, [100 * i, 0, 50, 50], 0.5) for i in (0, 1, 7)]
    assert lrp(arrays(truth(BOXES), results))[0].olrp == pytest.approx(3 / 5)
