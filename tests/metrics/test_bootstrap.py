from __future__ import annotations

import copy
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.metrics.bootstrap import average_precision, difference, interval, match, resample
from detzoo.metrics.coco import evaluate

from .problems import box, find, problem, repeated, truth


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_resampled_ap_is_what_pycocotools_says_of_the_resampled_set(seed, ties):
    gt, results = problem(seed, ties=ties)
    counts = np.random.default_rng(seed).integers(0, 4, len(gt["images"]))
    counts[-1] += counts.sum() == 0
    ours = average_precision(match(gt, results), counts)
    metrics = evaluate(*repeated(gt, results, counts), backend="pycocotools")
    for value, name in zip(ours, ("AP", "AP50", "AP75"), strict=True):
        if metrics[name] is None:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(metrics[name], abs=1e-12)


def test_max_dets_and_equal_overlaps_match_as_pycocotools_has_it():
    boxes = [box(1, 0, 1, [0, 0, 20, 20]), box(2, 0, 1, [10, 0, 20, 20])]
    # the first detection overlaps both boxes equally, so which one it takes decides the second
    results = [find(0, 1, [5, 0, 20, 20], 0.9), find(0, 1, [0, 0, 20, 20], 0.8)]
    for other in (results, results[::-1], [{**r, "score": 0.5} for r in results]):
        for limit in (1, 100):
            gt = truth(boxes)
            ours = average_precision(match(gt, other, max_dets=limit), np.ones(2, int))
            theirs = evaluate(gt, other, backend="pycocotools", max_dets=limit)
            np.testing.assert_allclose(
                ours, [theirs[k] for k in ("AP", "AP50", "AP75")], atol=1e-12
            )


def test_interval_of_a_certain_result_is_a_point_and_of_nothing_is_none():
    gt = truth([box(1, 0, 1, [0, 0, 40, 40]), box(2, 1, 1, [0, 0, 40, 40])])
    all_found = [find(i, 1, [0, 0, 40, 40], 0.9) for i in (0, 1)]
    assert interval(gt, all_found, n=20)["AP"] == pytest.approx([1, 1])
    assert interval(gt, [], n=20)["AP"] == [0, 0]
    assert interval(truth([]), all_found, n=20) == {"AP": None, "AP50": None, "AP75": None}


def test_interval_of_a_coin():
    """One of two images is found: a resample has AP 1, 51/101 or 0 (1/4, 1/2, 1/4)."""
    gt = truth([box(1, 0, 1, [0, 0, 40, 40]), box(2, 1, 1, [0, 0, 40, 40])])
    one_found = [find(0, 1, [0, 0, 40, 40], 0.9)]
    samples = resample(match(gt, one_found), n=2000, seed=3)[:, 0]
    shares = [np.isclose(samples, value).mean() for value in (0, 51 / 101, 1)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.05)
    assert interval(gt, one_found, n=2000)["AP"] == pytest.approx([0, 1])


def test_seed_decides():
    gt, results = problem(5, images=20)
    assert interval(gt, results, n=30, seed=1) == interval(gt, results, n=30, seed=1)
    assert interval(gt, results, n=30, seed=1) != interval(gt, results, n=30, seed=2)
    low, high = interval(gt, results, n=200)["AP"]
    assert 0 <= low < evaluate(gt, results)["AP"] < high <= 1


def test_difference_is_paired():
    gt, results = problem(5, images=30, crowd=0)
    assert difference(gt, results, copy.deepcopy(results), n=50)["AP"] == [0, 0]
    perfect = [find(a["image_id"], a["category_id"], a["bbox"], 1) for a in gt["annotations"]]
    low, high = difference(gt, perfect, results, n=50)["AP"]
    assert 0 < low <= high <= 1


def test_fast_enough():
    gt, results = problem(0, images=100, classes=7, found=100, ties=False)
    start = time.process_time()
    interval(gt, results, n=200)
    assert time.process_time() - start < 4  # 1 to 2 s on one core
