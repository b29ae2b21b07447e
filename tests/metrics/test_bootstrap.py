from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.metrics import bootstrap
from detzoo.metrics.bootstrap import (
    NAMES,
    Samples,
    average_precision,
    draw_sets,
    interval,
    match,
    match_problem,
    over_classes,
    precision_and_recall,
)
from detzoo.metrics.coco import evaluate
from detzoo.metrics.matching import arrays

from .problems import box, find, problem, repeated, truth


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_resampled_ap_is_what_pycocotools_says_of_the_resampled_set(seed, ties):
    """With crowd, images without boxes, equal scores within and across images, in every size."""
    gt, results = problem(seed, ties=ties)
    counts = np.random.default_rng(seed).integers(0, 4, len(gt["images"]))
    counts[-1] += counts.sum() == 0
    metrics = evaluate(*repeated(gt, results, counts), backend="pycocotools")
    ours = dict(zip(NAMES, average_precision(match(gt, results), counts), strict=False))
    found = arrays(gt, results)
    for size, ap, ar in (
        ("all", "AP", "AR100"),
        ("small", "APs", "ARs"),
        ("medium", "APm", "ARm"),
        ("large", "APl", "ARl"),
    ):
        values = precision_and_recall(match_problem(found, size=size), counts[None])
        ours[ap], ours[ar] = (over_classes(value).mean() for value in values)
    for name, value in ours.items():
        if metrics[name] is None:
            assert np.isnan(value), name
        else:
            assert value == pytest.approx(metrics[name], abs=1e-12), name


def test_many_sets_at_once_are_as_one_by_one():
    gt, results = problem(3, images=9, found=30)
    matches = match(gt, results)
    sets = draw_sets(9, 300)
    together = average_precision(matches, sets)
    alone = np.stack([average_precision(matches, counts) for counts in sets])
    np.testing.assert_array_equal(together, alone)


def test_blocks_of_sets_do_not_show(monkeypatch):
    gt, results = problem(3, images=9, found=30)
    matches, sets = match(gt, results), draw_sets(9, 20)
    before = average_precision(matches, sets)
    monkeypatch.setattr(bootstrap, "_CELLS", 100)
    np.testing.assert_array_equal(average_precision(matches, sets), before)


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


@pytest.mark.parametrize("found", [7, 35, 50, 100])
def test_recalls_that_lie_on_a_hundredth(found):
    """j * 0.01 is not always the float nearest to j / 100, and pycocotools compares floats."""
    boxes = [box(i, 0, 1, [20 * i, 0, 10, 10]) for i in range(1, 101)]
    results = [find(0, 1, [20 * i, 0, 10, 10], 1 - i / 200) for i in range(1, found + 1)]
    gt = truth(boxes)
    ours = average_precision(match(gt, results), np.ones(2, int))
    theirs = evaluate(gt, results, backend="pycocotools")["AP"]
    assert ours[0] == pytest.approx(theirs, abs=1e-12)


def test_interval_of_a_certain_result_has_a_width_and_of_nothing_is_none():
    """All of two images found says that at least 0.025^(1/2) = 0.158 of all are, at 95%."""
    gt = truth([box(1, 0, 1, [0, 0, 40, 40]), box(2, 1, 1, [0, 0, 40, 40])])
    all_found = [find(i, 1, [0, 0, 40, 40], 0.9) for i in (0, 1)]
    known = interval(gt, all_found, n=20)
    for name in ("AP", "AR100", "APm"):
        assert known[name] == pytest.approx([0.025**0.5, 1]), name
    assert interval(gt, [], n=20)["AP"] == pytest.approx([0, 1 - 0.025**0.5])
    assert known["APs"] is None and known["APl"] is None  # 40 x 40 is medium
    assert interval(truth([]), all_found, n=20) == dict.fromkeys(NAMES)
    with pytest.raises(ValueError, match="n is 0"):
        interval(gt, all_found, n=0)


def test_resamples_of_a_coin():
    """One of two images is found: a resample has AP 1, 51/101 or 0 (1/4, 1/2, 1/4)."""
    gt = truth([box(1, 0, 1, [0, 0, 40, 40]), box(2, 1, 1, [0, 0, 40, 40])])
    one_found = [find(0, 1, [0, 0, 40, 40], 0.9)]
    sets = draw_sets(2, 2000, seed=3)
    found = Samples.of(average_precision(match(gt, one_found), sets)[:, 0])
    shares = [np.isclose(found.samples, value).mean() for value in (0, 51 / 101, 1)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.05)
    assert found.estimate == pytest.approx(51 / 101)
    assert interval(gt, one_found, n=2000)["AP"] == pytest.approx([0, 1])


def test_sets_of_images():
    sets = draw_sets(3, 500)
    assert sets[0].tolist() == [1, 1, 1] and (sets.sum(axis=1) == 3).all() and len(sets) == 501
    np.testing.assert_allclose(sets[1:].mean(axis=0), 1, atol=0.15)


def test_seed_decides():
    gt, results = problem(5, images=20)
    assert interval(gt, results, n=30, seed=1) == interval(gt, results, n=30, seed=1)
    assert interval(gt, results, n=30, seed=1) != interval(gt, results, n=30, seed=2)
    low, high = interval(gt, results, n=200)["AP"]
    assert 0 <= low < evaluate(gt, results)["AP"] < high <= 1


LINE = np.arange(1, 1000) / 1000  # of S = 999 samples the 1000 q-th is q


def test_percentiles_and_p_by_hand():
    found = Samples(np.array(0.5), LINE)
    assert found.interval() == pytest.approx([0.025, 0.975])
    assert found.interval(0.5) == pytest.approx([0.25, 0.75])
    above = Samples(np.array(0.5), LINE - 0.02)  # 2% are below 0
    assert above.p_value() == pytest.approx(0.04, abs=0.002)
    below = Samples(np.array(-0.5), 0.02 - LINE)
    assert below.p_value() == pytest.approx(above.p_value())
    unknown = Samples(np.array(0.5), np.append(LINE, np.nan))
    assert unknown.interval() == found.interval()


@settings(max_examples=60, deadline=None)
@given(
    units=st.integers(1, 30),
    values=st.lists(st.floats(0, 1), min_size=2, max_size=12),
    same=st.booleans(),
)
def test_few_units_never_make_a_number_certain(units, values, same):
    """Whatever the samples: an interval with a width that holds the estimate and lies in the range,
    p no smaller than 2^(1 - units), and below 6 units 0 is inside the difference's interval."""
    values = np.array(values[:1] * 5 if same else values)
    number = Samples.of(values, units)
    difference = number - Samples.of(np.roll(values, 1) / 2, units)
    for found, (least, most) in ((number, (0, 1)), (difference, (-1, 1))):
        low, high = found.interval()
        assert least <= low < high <= most
        if units < 6:
            assert low <= found.estimate <= high
    assert difference.p_value() >= 2.0 ** (1 - units)
    if units < 6:
        low, high = difference.interval()
        assert low <= 0 <= high and difference.p_value() > 0.05


def test_one_image_says_nothing_and_six_that_agree_something():
    """0.5 on every image and resample; the other way round it may be on 1 - 0.025^(1/6) of all."""
    certain = np.full(1001, 0.5)

    def difference(units):
        return Samples.of(certain, units) - Samples.of(certain * 0, units)

    assert Samples.of(certain, 1).interval() == [0, 1]
    assert difference(1).interval() == [-1, 1] and difference(1).p_value() == 1
    assert difference(5).p_value() == 1 / 16
    six = difference(6)
    assert six.p_value() == 1 / 32
    unseen = 1 - 0.025 ** (1 / 6)
    assert six.interval() == pytest.approx([0.5 - unseen, 0.5 + unseen])
    assert Samples.of(certain * 0, 100).interval() == pytest.approx([0, 1 - 0.025**0.01])


def test_the_widening_of_few_units_is_students():
    """Quantiles of Student's t at 97.5% (from tables), over the normal one, times sqrt(n/(n-1))."""
    for units, student in ((5, 2.776), (6, 2.571), (11, 2.228), (31, 2.042), (101, 1.984)):
        expected = student / 1.95996 * (units / (units - 1)) ** 0.5
        assert bootstrap._widening(units) == pytest.approx(expected, rel=3e-3), units
    assert bootstrap._widening(None) == bootstrap._widening(1) == 1


def test_units_are_the_images_with_a_box_to_find_of_the_class_and_size():
    """Ten images, boxes on four of them, one of them large, one of them a crowd alone."""
    boxes = [box(i, i, 1, [0, 0, 40, 40]) for i in range(2)]
    boxes += [box(8, 2, 1, [0, 0, 100, 100]), box(9, 3, 1, [0, 0, 40, 40], crowd=1)]
    gt = truth(boxes, images=10)
    sampled = bootstrap.sample_numbers(arrays(gt, []), draw_sets(10, 3))
    assert {name: of.units for name, of in sampled.items()} == dict.fromkeys(NAMES, 3) | {
        "APs": 0,
        "APm": 2,
        "APl": 1,
    }
    assert interval(gt, [], n=20)["APl"] == [0, 1]


def test_p_of_no_difference_and_of_a_certain_one():
    same = Samples(np.array(0.0), np.zeros(100))
    assert same.p_value() == pytest.approx(1) and same.interval() == [0, 0]
    apart = Samples(np.array(0.2), np.full(100, 0.2))
    assert apart.p_value() < 0.02 and apart.interval() == [0.2, 0.2]
    nothing = Samples(np.array(np.nan), np.full(9, np.nan))
    assert nothing.p_value() is None and nothing.interval() is None
