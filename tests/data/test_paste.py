"""An object pasted into an image: it is where its mask says, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detzoo.data import Coco, Shapes, load_image
from detzoo.data.paste import GAP, paste
from detzoo.explain.scores import box_mask

RULES = {"labels": [1], "min_size": 10, "difficulty": 0.0}  # squares


def test_what_differs_is_the_object() -> None:
    ground = np.full((64, 48, 3), 120, np.uint8)
    found = paste(ground, [], np.random.default_rng(0), **RULES)
    changed = (found.pixels != ground).any(2)
    inside = box_mask(changed.shape, torch.tensor([found.box]))
    assert changed.any() and not changed[inside == 0].any()
    assert changed[inside == 1].all(), "a square stands out from a plain ground"
    assert (ground == 120).all(), "the image that was given is as it was"


def test_it_lies_on_free_ground_inside_the_image() -> None:
    taken = [(0.0, 0.0, 32.0, 64.0)]
    for seed in range(20):
        found = paste(np.zeros((64, 64, 3), np.uint8), taken, np.random.default_rng(seed), **RULES)
        x1, y1, x2, y2 = found.box
        assert x1 >= 32 + GAP and y1 >= 0 and x2 <= 64 and y2 <= 64


def test_nothing_is_pasted_where_nothing_is_free() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert paste(pixels, [(0.0, 0.0, 64.0, 64.0)], np.random.default_rng(0), **RULES) is None


def test_shapes_paste_a_class_that_they_draw_the_same_each_time(tmp_path: Path) -> None:
    few = {"train": 1, "val": 1, "test": 4, "size": 64, "max_objects": 2}
    data = Shapes(tmp_path, **few, classes=["ring", "square"])
    for sample in data.read("test").samples:
        pixels = load_image(sample.image)
        first, again, other = (data.paste(sample, pixels, seed) for seed in (0, 0, 1))
        assert np.array_equal(first.pixels, again.pixels)
        assert not np.array_equal(first.pixels, other.pixels)
        x1, y1, x2, y2 = first.box
        square = (first.pixels != pixels).any(2).sum() > 0.9 * (x2 - x1) * (y2 - y1)
        assert data.classes[first.label] == ("square" if square else "ring")


def test_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="drawn images alone"):
        Coco(tmp_path).paste(None, np.zeros((8, 8, 3), np.uint8), 0)
