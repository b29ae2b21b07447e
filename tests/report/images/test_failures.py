"""Disagreement, misses and false alarms against loops that look at each pair once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detzoo.metrics.matching import Problem, arrays
from detzoo.report.figures.palette import styles
from detzoo.report.images.failures import (
    close_ups,
    disagreement,
    false_alarms,
    find_disputed,
    found_boxes,
    misses,
    overlapping_detections,
    window,
)


@dataclass
class Detail:
    problem: Problem
    score: float


def truth(boxes):
    """boxes: (image, [x, y, w, h], crowd)."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in range(3)
        ],
        "categories": [{"id": 1, "name": "<b>cat</b>"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": c}
            for n, (i, b, c) in enumerate(boxes)
        ],
    }


SMALL, LARGE, CROWD = [10, 10, 20, 20], [60, 10, 40, 40], [120, 10, 60, 60]
TRUTH = truth([(0, SMALL, 0), (0, LARGE, 0), (0, CROWD, 1), (1, SMALL, 0), (1, LARGE, 0)])


def detail(*found, score=0.5):
    """found: (image, box, score) or with a class."""
    results = [
        {"image_id": i, "bbox": b, "score": s, "category_id": c[0] if c else 1}
        for i, b, s, *c in found
    ]
    return Detail(arrays(TRUTH, results), score)


ALL = {
    "a": detail((0, SMALL, 0.9), (0, LARGE, 0.8), (1, SMALL, 0.7), (0, CROWD, 0.9)),
    "b": detail((0, SMALL, 0.4), (0, LARGE, 0.8), (2, SMALL, 0.95), (2, LARGE, 0.6)),
    "c": detail((0, LARGE, 0.8), (1, [60, 10, 40, 16], 0.99), (1, SMALL, 0.9, 2)),
}


def test_a_box_is_found_from_the_detectors_own_threshold_on():
    assert found_boxes(ALL["a"]).tolist() == [True, True, False, True, False]
    assert found_boxes(ALL["b"]).tolist() == [False, True, False, False, False]
    assert found_boxes(Detail(ALL["b"].problem, 0.4)).sum() == 2


def test_disagreement_is_the_pairs_of_which_one_finds_it():
    """Image 0: the small one by a alone, 2 pairs; image 1: the same; none finds its large one."""
    assert disagreement(ALL).tolist() == [2, 2, 0]
    assert find_disputed(ALL, 5) == [0, 1] and find_disputed(ALL, 1) == [0]
    assert find_disputed({"a": ALL["a"]}, 5) == []


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=2, max_size=5))
def test_disagreement_by_brute_force(who):
    places = [(0, SMALL), (0, LARGE), (1, SMALL), (1, LARGE)]
    details = {
        str(n): detail(*((i, b, 0.9) for (i, b), yes in zip(places, finds, strict=True) if yes))
        for n, finds in enumerate(who)
    }
    expected = [0, 0, 0]
    for place, (image, _) in enumerate(places):
        for first in range(len(who)):
            for second in range(first):
                expected[image] += who[first][place] != who[second][place]
    assert disagreement(details).tolist() == expected


def test_the_worst_misses_are_what_others_find_and_then_the_largest():
    assert misses(ALL, "b") == [(0, 1), (3, 1), (4, 0)]
    assert misses(ALL, "c") == [(0, 1), (3, 1), (4, 0)]
    assert misses(ALL, "a") == [(4, 0)]
    assert misses(ALL, "c", count=1) == [(0, 1)]


def test_the_most_confident_false_alarms_one_an_image():
    problem = ALL["b"].problem
    ((alarm, kind),) = false_alarms(ALL["b"])
    assert (problem.score[alarm], problem.image[alarm], kind) == (0.95, 2, "background")
    ((alarm, kind),) = false_alarms(ALL["c"])
    assert (ALL["c"].problem.score[alarm], kind) == (0.99, "localisation")
    late = detail((0, [150, 80, 9, 9], 0.2), (2, SMALL, 0.95), (1, [150, 80, 9, 9], 0.6))
    scores = [late.problem.score[d] for d, _ in false_alarms(late)]
    assert scores == [0.95, 0.6, 0.2] and len(false_alarms(late, count=2)) == 2
    assert false_alarms(ALL["a"]) == []  # a crowd is no false alarm


def test_detections_shown_for_a_miss_overlap_the_box():
    seen = overlapping_detections(ALL["c"], 3)
    assert [ALL["c"].problem.label[d] for d in seen] == [1]
    assert (
        len(overlapping_detections(ALL["c"], 4)) == 1 and overlapping_detections(ALL["a"], 4) == []
    )
    assert overlapping_detections(Detail(ALL["c"].problem, 0.95), 3) == []


@given(
    st.tuples(st.floats(0, 180), st.floats(0, 80)),
    st.tuples(st.floats(1, 200), st.floats(1, 100)),
    st.tuples(st.integers(20, 200), st.integers(20, 100)),
)
def test_a_window_contains_its_box_and_is_inside_the_image(corner, sides, size):
    x, y = (min(c, s - 1) for c, s in zip(corner, size, strict=True))
    box = (x, y, min(x + sides[0], size[0]), min(y + sides[1], size[1]))
    left, top, side = window(box, size)
    assert left >= 0 and top >= 0 and side <= max(size)
    assert left <= box[0] + 1 and top <= box[1] + 1
    assert left + side >= box[2] - 1 and top + side >= box[3] - 1


def test_close_ups_say_what_they_show(tmp_path):
    for i in range(2):  # the third file is not there
        Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / f"{i}.png")
    found = close_ups(TRUTH | {"root": str(tmp_path)}, ALL, styles(ALL), side=120)
    by_name = {strip.name: strip.tiles for strip in found.strips}
    assert [t.caption for t in by_name["a"]] == [
        "missed: <b>cat</b>, found by 0 of 2 others; 1.png"
    ]
    alarm, *lost = by_name["b"]
    assert alarm.caption == "false alarm: <b>cat</b> 0.95, background; 2.png"
    assert alarm.uri == "" and alarm.note == "the image file is not there"
    assert len(lost) == 3 and all(t.uri.startswith("data:image/jpeg") for t in lost)
    assert np.all([t.colour == styles(ALL)["b"].colour for t in by_name["b"]])
    alone = close_ups(TRUTH | {"root": str(tmp_path)}, {"a": ALL["a"]}, styles("a"))
    assert alone.strips[0].tiles[0].caption == "missed: <b>cat</b>; 1.png"
    assert pytest.approx(0.5) == ALL["a"].score
