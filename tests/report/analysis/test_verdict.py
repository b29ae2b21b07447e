"""The sentences say what the intervals allow and no more."""

import math
from pathlib import Path

import pandas as pd
import pytest

from detzoo.metrics.paired import Pair
from detzoo.report.analysis.verdict import intervals_overlap, write_verdict
from detzoo.report.load.runs import Run


def frame(*rows):
    """(detector, AP, low, high, ms, low, high) per row."""
    keys = ("detector", "AP", "AP_low", "AP_high", "p50_ms", "p50_ms_low", "p50_ms_high")
    table = pd.DataFrame([dict(zip(keys, row, strict=True)) for row in rows])
    return table.assign(kind="run", images=95)


A = ("A", 0.5, 0.45, 0.55, 40.0, 39.0, 41.0)
B = ("B", 0.48, 0.44, 0.53, 20.0, 19.5, 20.5)
C = ("C", 0.3, 0.25, 0.35, 39.5, 38.0, 41.0)
N = math.nan


def test_overlapping_intervals_cannot_be_told_apart():
    accuracy, speed = write_verdict(frame(A, B))
    assert accuracy == (
        "A has the highest AP, 0.500 [0.450, 0.550], but it cannot be told apart from "
        "B (0.480 [0.440, 0.530]) on these 95 images: the 95% intervals overlap."
    )
    assert speed == (
        "B is the fastest with 20.0 [19.5, 20.5] ms an image (median, end to end, batch 1), "
        "2.00 [1.90, 2.10] times as fast as A."
    )


def test_detectors_that_learned_nothing_are_not_ranked():
    low = ("A", 6e-6, 5e-6, 7e-6, 40.0, 39.0, 41.0)
    none = ("B", 0.0, 0.0, 0.0, 20.0, 19.5, 20.5)
    accuracy, _ = write_verdict(frame(none, low))
    assert accuracy == "On 95 images, no detector finds anything yet: every AP is below 0.001."


def test_few_images_give_no_ranks():
    """Intervals of an old scoring of 5 images: far apart, and worth nothing."""
    accuracy, _ = write_verdict(frame(A, C).assign(images=5))
    assert "A has the highest AP" in accuracy and "cannot be told apart from C (" in accuracy
    assert accuracy.endswith("on these 5 images: fewer than 6 images tell nothing apart.")
    assert "on this 1 image:" in write_verdict(frame(A, C).assign(images=1))[0]


def test_few_groups_give_no_ranks_with_any_number_of_images():
    accuracy, _ = write_verdict(frame(A, C).assign(groups=5.0))
    assert accuracy.endswith(
        "on these 95 images in 5 groups: fewer than 6 groups of images tell nothing apart."
    )
    assert "above C" in write_verdict(frame(A, C).assign(groups=6.0))[0]
    one, other = (row for _, row in frame(A, C).assign(groups=5).iterrows())
    assert intervals_overlap(one, other, "AP")


def test_intervals_of_few_images_overlap_whatever_they_are():
    """Also those that an earlier version wrote; times are of passes, not of images."""
    one, other = (row for _, row in frame(A, C).assign(images=5).iterrows())
    assert intervals_overlap(one, other, "AP")
    more = [row for _, row in frame(A, C).iterrows()]
    assert not intervals_overlap(*more, "AP")
    slow = [row for _, row in frame(A, B).assign(images=5).iterrows()]
    assert not intervals_overlap(*slow, "p50_ms")


def test_significant_and_insignificant_pairs_in_one_sentence():
    accuracy, _ = write_verdict(frame(C, B, A))
    assert "above C (0.300 [0.250, 0.350]), whose 95% intervals lie below, but it" in accuracy
    assert "cannot be told apart from B (" in accuracy


def test_clearly_the_best_and_no_clear_speed():
    accuracy, speed = write_verdict(frame(A, C))
    assert accuracy.startswith("On 95 images, A has the highest AP") and "told" not in accuracy
    assert speed.endswith("but in speed it cannot be told apart from A (40.0 [39.0, 41.0] ms).")


def test_speeds_without_an_interval_are_not_separated():
    speed = write_verdict(frame(B, ("D", 0.6, 0.55, 0.65, 900.0, N, N)))[1]
    assert speed.endswith("cannot be told apart from D (900 ms): not both have an interval.")


def test_the_best_may_also_be_the_fastest():
    assert write_verdict(frame(B, C))[1].startswith(
        "B is also the fastest with 20.0 [19.5, 20.5] ms"
    )
    assert write_verdict(frame(B, C))[1].endswith("1.98 [1.85, 2.10] times as fast as the next, C.")


def test_without_an_interval_nothing_is_separated():
    accuracy, _ = write_verdict(frame(A, ("D", 0.1, N, N, N, N, N)))
    assert "cannot be told apart from D (0.100)" in accuracy
    assert "not all have an interval" in accuracy


@pytest.mark.parametrize(
    ("rows", "accuracy", "speed"),
    [
        ([A], "A reaches AP 0.500 [0.450, 0.550] on 95 images.", "A takes 40.0 [39.0, 41.0] ms"),
        ([("A", N, N, N, N, N, N)], "No AP can be given on 95 images", "None of them was timed."),
    ],
)
def test_few_numbers(rows, accuracy, speed):
    found = write_verdict(frame(*rows))
    assert found[0].startswith(accuracy) and found[1].startswith(speed)


def test_a_mean_speaks_for_its_seeds():
    rows = frame(A, A, A, B)
    rows.loc[0, "kind"] = "mean"
    assert write_verdict(rows) == write_verdict(frame(A, B))


def test_many_are_not_all_listed():
    below = [(name, 0.1, 0.05, 0.2, N, N, N) for name in "DEFGH"]
    assert "E (0.100 [0.050, 0.200]), F (" in write_verdict(frame(A, *below))[0]
    assert " and 2 more, whose" in write_verdict(frame(A, *below))[0]


def test_intervals_that_touch_overlap():
    a, b = (row for _, row in frame(A, ("D", 0.4, 0.3, 0.45, N, N, N)).iterrows())
    assert intervals_overlap(a, b, "AP") and intervals_overlap(b, a, "AP")
    b["AP_high"] = 0.4499
    assert not intervals_overlap(a, b, "AP") and not intervals_overlap(b, a, "AP")


def pair(first, second, difference, low, high, p):
    return Pair(first, second, difference, low, high, p, p)


def test_the_paired_test_tells_apart_what_overlapping_intervals_do_not():
    """And the other way round: p decides, not the intervals."""
    pairs = [pair("B", "A", -0.02, -0.03, -0.01, 0.004), pair("A", "C", 0.2, -0.1, 0.4, 0.3)]
    (alone, _) = write_verdict(frame(A, B), pairs)
    assert alone == (
        "On 95 images, A has the highest AP, 0.500 [0.450, 0.550], above B (by 0.020 "
        "[0.010, 0.030]) (paired bootstrap, Holm's correction, 5%)."
    )
    (both, _) = write_verdict(frame(A, B, C), pairs)
    assert both == (
        "A has the highest AP, 0.500 [0.450, 0.550], above B (by 0.020 [0.010, 0.030]), but it "
        "cannot be told apart from C (0.200 [-0.100, 0.400]) on these 95 images: paired "
        "bootstrap, Holm's correction, 5%."
    )


def test_a_detector_without_a_test_brings_the_intervals_back():
    assert (
        "the 95% intervals overlap"
        in write_verdict(frame(A, B, C), [pair("A", "C", 0.2, 0, 1, 0)])[0]
    )


def timed(*ms):
    which = [(r, i) for r in range(len(ms)) for i in range(3)]
    samples = {
        "round": [r for r, _ in which],
        "image": [i for _, i in which],
        "end_to_end": [ms[r] for r, _ in which],
    }
    return [Run(Path("a"), speed={"session": "s", "samples": samples})]


def test_speed_is_of_paired_passes_where_there_are_any():
    """Intervals that overlap, but pass by pass A takes 3.1 times as long; and the reverse."""
    wide = ("B", 0.48, 0.44, 0.53, 13.0, 5.0, 60.0)
    ours = {"A": timed(31, 62, 93), "B": timed(10, 20, 30)}
    assert write_verdict(frame(A, wide), (), ours)[1].endswith(
        "3.10 [3.10, 3.10] times as fast as A (over 9 paired passes)."
    )
    ours = {"A": timed(10, 20, 30), "B": timed(11, 19, 30)}
    assert "in speed it cannot be told apart from A" in write_verdict(frame(A, B), (), ours)[1]


def test_a_ranking_across_starts_says_so():
    rows = frame(A, B, C).assign(start=["coco", "scratch", "external"])
    accuracy, _ = write_verdict(rows)
    assert accuracy.endswith(
        "The rows start from different weights (coco: A; scratch: B), which the ranking does not "
        "allow for."
    )
    alike = frame(A, B, C).assign(start=["coco", "coco", "external"])
    assert "start" not in write_verdict(alike)[0]
