"""What to look at first, by what is odd about boxes and by what check found."""

from __future__ import annotations

from pathlib import Path

import pytest

from detzoo.data.dataset import Dataset, Problem, sample_of
from detzoo.data.doubts import doubts, examples, spaced

FINE = (10.0, 10, 40, 50)


def dataset(*images, split="train"):
    """images: lists of (box, label), each of 200 x 100 pixels (width x height)."""
    root = Path("/data")
    samples = [
        sample_of(
            id,
            root / "images" / f"{id} é.jpg",
            (100, 200),
            [box for box, _ in objects],
            [label for _, label in objects],
            [False] * len(objects),
            [1.0] * len(objects),
        )
        for id, objects in enumerate(images, 1)
    ]
    return Dataset("made", split, root, tuple(samples), ("cat", "dog"), (1, 2))


@pytest.mark.parametrize(
    ("objects", "reason", "boxes"),
    [
        ([(FINE, 0), ((5, 5, 7, 90), 0)], "a box under 3 px", {1}),
        ([((0, 5, 199, 9), 0)], "a box over 20 times as long as wide", {0}),
        ([(FINE, 0), ((0, 0, 200, 100), 1)], "a box around the whole image, and others", {1}),
        ([(FINE, 0), (FINE, 1)], "two boxes on one place (cat and dog)", {0, 1}),
        ([(FINE, 1), ((10, 10, 40, 51), 1)], "two boxes on one place (both dog)", {0, 1}),
    ],
)
def test_odd_boxes(objects, reason, boxes):
    (found,) = doubts(dataset([(FINE, 0)], objects, [], [((0, 0, 200, 100), 0)]))
    assert (found.index, found.reasons, found.boxes) == (1, [reason], boxes)


@pytest.mark.parametrize(
    ("where", "split", "index"),
    [
        ("images/2 é.jpg (id 2)", "train", 1),
        ("images/2 é.jpg", "", 1),
        ("train: images/2 é.jpg", "", 1),
        ("labels/2 é.txt:3", "train", 1),
        ("Annotations/2 é.xml:3", "train", 1),
        ("train.json: annotation 5, image 2", "train", 1),
        ("images/2 é.jpg (id 2)", "val", None),
        ("train.json: annotation 5, image 77", "train", None),
        ("made train", "train", None),
    ],
)
def test_what_check_found_leads_to_its_image(where, split, index):
    problem = Problem("error", "bad thing", where, "it is bad", "dropped", split)
    found = doubts(dataset([(FINE, 0)], [(FINE, 0)]), [problem])
    assert [doubt.index for doubt in found] == ([] if index is None else [index])
    assert all(doubt.reasons == ["bad thing: it is bad"] for doubt in found)


def test_errors_come_before_warnings_and_these_before_odd_boxes():
    problems = [
        Problem(severity, "x", f"images/{id} é.jpg", severity, "", "train")
        for severity, id in (("warning", 2), ("error", 3))
    ]
    twins = [(FINE, 0), (FINE, 0)]
    assert [d.index for d in doubts(dataset(twins, [], []), problems)] == [2, 1, 0]


def test_examples_of_a_class_are_doubtful_first_then_spaced_and_one_an_image():
    odd = [(FINE, 0), ((1, 1, 2, 50), 0)]
    images = [[(FINE, 0), (FINE[:2] + (45, 55), 0)]] * 5 + [odd] + [[(FINE, 1)]]
    data = dataset(*images)
    first = [d for d in doubts(data) if d.index == 5]
    found = examples(data, 0, 4, first)
    assert found[0] == (5, 1) and len({index for index, _ in found[1:]}) == 3
    assert examples(data, 1, 4, first) == [(6, 0)]
    assert len(examples(data, 0, 99)) == 12
    assert spaced(range(10), 3) == [1, 5, 8] and spaced([], 3) == []
