"""Thresholds are chosen on val, judged on test, and their rates are what one counts by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.metrics.bootstrap import match, match_problem
from detzoo.metrics.curves import IOU, THRESHOLDS, f1
from detzoo.metrics.matching import arrays
from detzoo.metrics.samples import draw_sets
from detzoo.metrics.thresholds import (
    ALARM_RATES,
    BEST_F1,
    PRECISE,
    RATES,
    choose,
    counts,
    froc,
    threshold_of,
)

from .problems import box, find, problem, repeated, truth

A, B = [0, 0, 50, 50], [200, 0, 50, 50]
# Image 0 holds an a and a b, image 1 a crowd of b, images 2 and 3 nothing.
TRUTH = truth([box(0, 0, 1, A), box(1, 0, 2, B), box(2, 1, 2, B, crowd=1)], images=4)
FOUND = [
    find(0, 1, A, 0.9),
    find(2, 1, A, 0.7),  # the only alarm in an image without objects
    find(0, 2, B, 0.6),
    find(1, 1, A, 0.5),  # an alarm beside a crowd
    find(1, 2, B, 0.4),  # on the crowd: neither found nor an alarm
]


def at(threshold: float, sets: np.ndarray | None = None) -> dict[str, float]:
    of = arrays(TRUTH, FOUND)
    counted = counts(of, match_problem(of, thresholds=IOU), threshold)
    sets = draw_sets(4, 1) if sets is None else sets
    return {name: float(sample.estimate) for name, sample in counted.rates(sets).items()}


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [  # F1, precision, recall, false alarms, alarmed
        (0.95, [0, np.nan, 0, 0, 0]),
        (0.9, [0.5, 1, 0.5, 0, 0]),
        (0.65, [1 / 3, 1 / 2, 0.5, 0.25, 0.5]),
        (0.6, [(2 / 3 + 1) / 2, 2 / 3, 1, 0.25, 0.5]),
        (0.3, [(1 / 2 + 1) / 2, 1 / 2, 1, 0.5, 0.5]),
    ],
)
def test_rates_by_hand(threshold, expected):
    assert list(at(threshold).values()) == pytest.approx(expected, nan_ok=True)


def test_a_class_is_judged_by_its_own_images():
    of = arrays(TRUTH, FOUND)
    counted = counts(of, match_problem(of, thresholds=IOU), 0.3)
    a, b = (
        {name: float(s.estimate) for name, s in counted.of_class(k).rates(draw_sets(4, 1)).items()}
        for k in (0, 1)
    )
    assert a == pytest.approx(
        {"f1": 0.5, "precision": 1 / 3, "recall": 1, "false_alarms": 0.5, "alarmed": 2 / 3}
    )
    assert b == {"f1": 1, "precision": 1, "recall": 1, "false_alarms": 0, "alarmed": 0}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_resample_is_judged_as_the_set_spelled_out(seed):
    gt, results = problem(seed, ties=False)
    chance = np.random.default_rng(seed)
    draws = np.bincount(chance.integers(6, size=6), minlength=6)
    threshold = float(chance.uniform())

    def rates(problem, sets):
        table = match_problem(problem, thresholds=IOU)
        return counts(problem, table, threshold).rates(sets)

    found = rates(arrays(gt, results), np.stack([np.ones(6, np.int32), draws]))
    again = rates(arrays(*repeated(gt, results, draws)), np.ones((1, 6), np.int32))
    for name in RATES:
        drawn, spelled = found[name].samples[0], again[name].estimate
        assert drawn == pytest.approx(float(spelled), nan_ok=True), name


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_f1_and_recall_are_those_of_the_curves(seed):
    gt, results = problem(seed)
    of = arrays(gt, results)
    curve, place = f1(match(gt, results)), seed % 101
    found = counts(of, match_problem(of, thresholds=IOU), THRESHOLDS[place])
    rates = found.rates(np.ones((1, 6)))
    assert float(rates["f1"].estimate) == pytest.approx(curve.mean[place], nan_ok=True)


def test_what_is_chosen_is_chosen_on_val_and_judged_on_test():
    val = [find(0, 1, A, 0.8), find(0, 2, B, 0.8), find(2, 1, A, 0.5)]
    chosen = choose(arrays(TRUTH, val), arrays(TRUTH, FOUND), n=50)
    best, precise = (chosen["overall"][name] for name in (BEST_F1, PRECISE))
    # On val all is found and nothing false from 0.51 to 0.8; test would have chosen 0.6.
    assert best["threshold"] == precise["threshold"] == pytest.approx(0.51)
    assert best["val"]["f1"] == 1 and best["test"] == pytest.approx(at(0.51))
    assert chosen["classes"]["b"][BEST_F1]["threshold"] == 0.0  # nothing of it is ever false
    for name in RATES:
        low, high = best["intervals"][name]
        assert low <= best["test"][name] <= high
    assert best["intervals"]["alarmed"] == [0, 1]  # of two images without objects
    json.dumps(chosen, allow_nan=False)
    assert threshold_of(chosen) == best["threshold"]


def test_the_lowest_precise_threshold_lies_below_the_best_f1():
    """Ten found of 0.9, an alarm of 0.7, five found of 0.2: precision stays at 15 of 16."""
    boxes = [box(i, i % 4, 1, [60 * i, 0, 50, 50]) for i in range(15)]
    found = [find(i % 4, 1, b["bbox"], 0.9 if i < 10 else 0.2) for i, b in enumerate(boxes)]
    found.append(find(0, 1, [0, 90, 50, 50], 0.7))
    of = arrays(truth(boxes, images=4), found)
    assert choose(of, of, n=2)["overall"][PRECISE]["threshold"] == 0.0
    more = arrays(truth(boxes, images=4), [*found, find(1, 1, [0, 90, 50, 50], 0.15)])
    assert choose(more, of, n=2)["overall"][PRECISE]["threshold"] == pytest.approx(0.16)


def test_without_a_threshold_there_is_a_reason():
    empty, of = arrays(truth([], images=4), FOUND), arrays(TRUTH, FOUND)
    chosen = choose(empty, of, n=5)["overall"][BEST_F1]
    assert (chosen["threshold"], chosen["reason"]) == (None, "val has no boxes")
    assert set(chosen["test"].values()) == {None}
    wrong = arrays(TRUTH, [find(2, 1, A, 0.7), find(0, 1, A, 0.2)])
    assert "precision of 0.9" in choose(wrong, of, n=5)["overall"][PRECISE]["reason"]
    other = arrays(truth([], images=4, classes=1), [])
    with pytest.raises(ValueError, match="classes"):
        choose(other, of)
    judged = choose(of, empty, n=5)["overall"][BEST_F1]
    assert judged["test"]["f1"] is None and judged["test"]["false_alarms"] > 0


def test_recall_against_false_alarms_by_hand():
    """Of 2 boxes in 4 images: one before any alarm, one after the first (0.25 an image)."""
    curve = froc(match(TRUTH, FOUND))
    assert set(curve[ALARM_RATES < 0.25]) == {0.5} and set(curve[ALARM_RATES >= 0.25]) == {1.0}
    assert np.isnan(froc(match(truth([]), FOUND[:1]))).all()
    assert set(froc(match(TRUTH, []))) == {0.0}
    tied = [find(0, 1, A, 0.5), find(2, 1, A, 0.5)]  # the alarm comes with the hit
    assert set(froc(match(TRUTH, tied))[ALARM_RATES < 0.25]) == {0.0}


@pytest.mark.parametrize(
    "kept",
    [
        {},
        [],
        {"overall": 1},
        *(
            {"overall": {BEST_F1: {"threshold": t}}}
            for t in (None, "0.5", True, -0.1, 1.5, float("nan"))
        ),
    ],
)
def test_a_threshold_from_any_file_is_a_score_or_none(kept):
    assert threshold_of(kept) is None


def test_groups_of_images_are_drawn_whole():
    grouped = {**TRUTH, "images": [{**i, "group": i["id"] // 2} for i in TRUTH["images"]]}
    of = arrays(grouped, FOUND)
    point = choose(of, of, n=40)
    assert "2 groups of images" in point["method"]
    alone, together = (
        choose(p, p, n=40)["overall"][BEST_F1]["intervals"]["recall"]
        for p in (arrays(TRUTH, FOUND), of)
    )
    # All that is found is in one group; no draw of images or groups can make that more certain.
    assert together[1] - together[0] >= alone[1] - alone[0]
