"""The short sentences: what a chooser reads first, no surer than the numbers."""

import math

import pandas as pd
import pytest

from detzoo.metrics.paired import Pair
from detzoo.report.analysis.speed_ratios import Ratio
from detzoo.report.analysis.summary import Known, Point, summary

KEYS = ("detector", "AP", "AP_low", "AP_high", "p50_ms", "p50_ms_low", "p50_ms_high", "p99_ms")
N = math.nan
SSD = ("ssd", 0.482, 0.45, 0.51, 7.6, 7.5, 7.7, 9.0)
RCNN = ("fast_rcnn", 0.394, 0.36, 0.42, 20.0, 19.5, 20.5, 30.0)
CENTER = ("centernet", 0.371, 0.34, 0.40, 5.6, 5.5, 5.7, 60.0)


def frame(*rows):
    return pd.DataFrame([dict(zip(KEYS, row, strict=True)) for row in rows]).assign(kind="run")


def said(*rows, about=None, **known):
    found = summary(frame(*rows), Known(**known))
    return [s.text for s in found if about in (None, s.about)]


def test_significant_results_are_short_sentences():
    accuracy, speed, threshold, training, *_ = said(
        *(CENTER, SSD, RCNN),
        points={"ssd": Point(0.41, 0.73, 0.77, 0.70, 1.25)},
        curves={
            "ssd": [(1000, 0.2), (2000, 0.4), (3000, 0.48)],
            "fast_rcnn": [(1000, 0.1), (2000, 0.3), (3000, 0.39)],
            "centernet": [(1000, 0.1), (2000, 0.3), (3000, 0.37)],
        },
    )
    assert accuracy == (
        "ssd is the most accurate (AP 0.482, 0.088 above the next, fast_rcnn; sure at 5%)."
    )
    assert speed == "centernet is the fastest (5.60 ms an image; ssd 7.60)."
    assert threshold == (
        "Deploy ssd at score 0.41: precision 0.77, recall 0.70, 1.25 false alarms an image."
    )
    assert training == (
        "All curves still rise: this is an order after 3,000 images, and more training "
        "(recipe.images_seen) may change it."
    )


PAIR = Pair("ssd", "centernet", 0.111, -0.01, 0.2, 0.08, 0.08)
POINTS = {"ssd": Point(0.41, 0.73, 0.77, 0.70), "centernet": Point(0.3, 0.7, 0.71, 0.69)}
FASTER = (
    "Deploy centernet at score 0.30: precision 0.71, recall 0.69. In AP nothing separates it from "
    "ssd, and it takes 5.60 ms an image where that takes 7.60."
)
MOST_ACCURATE = "Deploy ssd at score 0.41: precision 0.77, recall 0.70."


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, FASTER),
        ({"pairs": [Pair("ssd", "centernet", 0.111, 0.05, 0.2, 0.01, 0.01)]}, MOST_ACCURATE),
        ({"points": {"ssd": POINTS["ssd"]}}, MOST_ACCURATE),  # at which score?
        ({"ratios": {"ssd": Ratio(1.36, 0.9, 1.5, 50)}}, MOST_ACCURATE),
        ({"ratios": {"ssd": Ratio(1.36, 1.2, 1.5, 50)}}, FASTER),
    ],
)
def test_without_a_significant_difference_the_faster_one_is_deployed(change, expected):
    known = {"pairs": [PAIR], "points": POINTS} | change
    assert said(CENTER, SSD, about="threshold", **known) == [expected]


def test_a_slower_one_or_one_that_was_not_timed_is_not_deployed_instead():
    slow = ("centernet", 0.371, 0.34, 0.40, 7.9, 7.85, 7.95, 60.0)
    as_fast = ("centernet", 0.371, 0.34, 0.40, 7.55, 7.5, 7.65, 60.0)
    for row in (slow, as_fast, (*CENTER[:4], N, N, N, N)):
        known = {"pairs": [PAIR], "points": POINTS}
        assert said(row, SSD, about="threshold", **known) == [MOST_ACCURATE]


def test_the_paired_test_decides_and_not_the_intervals():
    pair = Pair("fast_rcnn", "ssd", -0.088, -0.19, 0.01, 0.08, 0.08)
    assert said(SSD, RCNN, about="accuracy", pairs=[pair]) == [
        "ssd has the highest AP (0.482), but cannot be told apart from fast_rcnn."
    ]
    pair = Pair("ssd", "fast_rcnn", 0.02, 0.01, 0.03, 0.004, 0.004)
    close = ("fast_rcnn", 0.470, 0.44, 0.50, N, N, N, N)
    assert "sure at 5%" in said(SSD, close, about="accuracy", pairs=[pair])[0]
    assert "cannot be told apart" in said(SSD, close, about="accuracy")[0]


@pytest.mark.parametrize(
    ("rows", "accuracy", "speed"),
    [
        ([SSD], "ssd reaches AP 0.482 [0.450, 0.510].", "ssd takes 7.60 ms an image."),
        ([("a", N, N, N, N, N, N, N)], "No AP can be given", "None of them has a latency."),
        ([("a", 6e-4, 0, 1e-3, N, N, N, N)] * 2, "No detector finds anything yet", "None of them"),
        (
            [SSD, RCNN],
            "ssd is the most accurate",
            "ssd is also the fastest (7.60 ms an image; the next, fast_rcnn, 20.0).",
        ),
        (
            [SSD, ("b", 0.1, 0, 0.2, 7.65, 7.5, 7.8, 9.0)],
            "ssd is the most accurate",
            "ssd has the least latency (7.60 ms an image), but cannot be told apart from b.",
        ),
    ],
)
def test_few_numbers_and_equal_ones(rows, accuracy, speed):
    first, second, *_ = said(*rows)
    assert first.startswith(accuracy) and second.startswith(speed)


def test_paired_passes_tell_speeds_apart_where_intervals_overlap():
    other = ("b", 0.1, 0, 0.2, 7.65, 7.5, 7.8, 9.0)
    ratios = {"b": Ratio(1.02, 1.01, 1.03, 60)}
    assert "also the fastest" in said(SSD, other, about="speed", ratios=ratios)[0]


def test_no_sentence_on_detectors_that_learned_nothing():
    rows = [("a", 2e-4, 0, 1e-3, 5.0, 4.9, 5.1, 9.0), ("b", 1e-5, 0, 1e-3, 9.0, 8.9, 9.1, 9.5)]
    assert len(said(*rows, curves={"a": [(1, 0), (2, 0), (3, 2e-4)]})) == 2


def test_ap_and_f1_may_disagree():
    points = {"ssd": Point(0.41, 0.70, 0.7, 0.7, 1.0), "fast_rcnn": Point(0.30, 0.75)}
    assert said(SSD, RCNN, about="caution", points=points) == [
        "AP and F1 disagree: at its own threshold (0.30) fast_rcnn has the higher F1, 0.75 against "
        "0.70; it is the one to take where boxes are used from one threshold on."
    ]
    points["fast_rcnn"] = Point(0.30, 0.704)  # as they are printed there is no difference
    assert said(SSD, RCNN, about="caution", points=points) == []


def test_no_threshold_says_why():
    points = {"ssd": Point(reason="no predictions on val; detzoo evaluate keeps them")}
    assert said(SSD, about="threshold", points=points) == [
        "No score threshold is known for ssd: no predictions on val; detzoo evaluate keeps them."
    ]


def test_classes_that_fail_are_named():
    aps = {"ring": 0.1, "square": 0.8, "star": 0.6, "unicorn": N}
    assert said(SSD, about="classes", classes={"ssd": aps}) == ["ssd fails at ring (AP 0.100)."]
    aps["ring"] = 0.5
    assert said(SSD, about="classes", classes={"ssd": aps}) == [
        "ssd is worst at ring (AP 0.500) and best at square (0.800)."
    ]
    aps = {str(i): 0.001 * i for i in range(6)} | {"big": 0.9}
    assert said(SSD, about="classes", classes={"ssd": aps}) == [
        "ssd fails at 0 (AP 0.000), 1 (AP 0.001), 2 (AP 0.002) and 3 more classes."
    ]


def test_a_long_tail_is_a_warning_with_its_reason():
    tails = {"centernet": "the same few images"}
    found = said(SSD, CENTER, about="caution", tails=tails)
    assert found == ["centernet's p99 (60.0 ms) is 11 times its p50: the same few images."]
    slow = ("ssd", 0.482, 0.45, 0.51, 7.6, 7.5, 7.7, 76.0)
    (both,) = said(slow, CENTER, about="caution")
    assert both.endswith("times its p50. The same holds of ssd, by 10 times or more.")
