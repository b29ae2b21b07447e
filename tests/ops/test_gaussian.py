from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detzoo.ops import boxes as box_ops
from detzoo.ops.gaussian import cells_in_boxes, heatmaps, radius

SIDES = st.floats(1, 500)
OVERLAPS = st.floats(0.1, 0.95)


def both(width: float, height: float, overlap: float) -> tuple[float, float]:
    size = torch.tensor([width, height], dtype=torch.float64)
    return radius(size, overlap, "published").item(), radius(size, overlap, "correct").item()


def test_the_papers_example() -> None:
    published, correct = both(20, 20, 0.7)
    assert round(published, 2) == 5.47
    assert round(correct, 2) == 1.63


@given(SIDES, SIDES, OVERLAPS)
def test_published_is_the_least_of_the_first_codes_three_numbers(w, h, t) -> None:
    """Each quadratic a r^2 + b r + c as that code solves it: (|b| + sqrt(b^2 - 4ac)) / 2, with its
    sign of b in the last."""
    quadratics = [
        (1, h + w, w * h * (1 - t) / (1 + t)),
        (4, 2 * (h + w), (1 - t) * w * h),
        (4 * t, -2 * t * (h + w), (t - 1) * w * h),
    ]
    answers = [(b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in quadratics]
    assert both(w, h, t)[0] == pytest.approx(min(answers), rel=1e-6, abs=1e-9)


@given(SIDES, SIDES, OVERLAPS)
def test_correct_is_the_largest_move_of_corners_that_keeps_the_overlap(w, h, t) -> None:
    r = both(w, h, t)[1]
    least = []
    for scale in (1.0, 1.001):
        d = r * scale
        moves = [(a, b, c, e) for a in (-d, d) for b in (-d, d) for c in (-d, d) for e in (-d, d)]
        box = torch.tensor([[0, 0, w, h]], dtype=torch.float64)
        moved = box + torch.tensor([*moves, (0, 0, 0, 0)], dtype=torch.float64)
        least.append(box_ops.iou(box, moved).min().item())
    assert least[0] == pytest.approx(t, rel=1e-6)
    assert least[1] < t


def test_a_box_without_area_has_radius_0() -> None:
    sizes = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    for reading in ("published", "correct"):
        assert radius(sizes, 0.7, reading).tolist() == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("overlap", "reading"), [(0.7, "exact"), (0.0, "correct"), (1.5, "correct")]
)
def test_errors_name_the_value(overlap: float, reading: str) -> None:
    with pytest.raises(ValueError, match=repr(reading) if overlap == 0.7 else str(overlap)):
        radius(torch.ones(2), overlap, reading)


def draw(cells: list, radii: list, planes: list, count: int, shape: tuple[int, int]) -> Tensor:
    cells = torch.tensor(cells, dtype=torch.int64).reshape(-1, 2)
    return heatmaps(
        cells, torch.tensor(radii, dtype=torch.float32), torch.tensor(planes).long(), count, shape
    )


def test_one_gaussian_by_hand() -> None:
    """r = 1: sigma 1/2, so exp(-2) beside the peak and exp(-4) at the corners; nothing beyond."""
    side, corner = math.exp(-2), math.exp(-4)
    expected = [
        [0, 0, 0, 0, 0],
        [0, corner, side, corner, 0],
        [0, side, 1, side, 0],
        [0, corner, side, corner, 0],
    ]
    (heat,) = draw([(2, 2)], [1.9], [0], 1, (4, 5))  # 1.9 is rounded down
    torch.testing.assert_close(heat, torch.tensor(expected))


def test_radius_0_is_one_cell_and_a_negative_radius_nothing() -> None:
    heat = draw([(1, 0), (0, 1)], [0, -1], [0, 0], 1, (2, 2))
    assert heat.tolist() == [[[0, 1], [0, 0]]]


def test_no_objects() -> None:
    assert draw([], [], [], 3, (2, 2)).tolist() == torch.zeros(3, 2, 2).tolist()


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)),
        max_size=8,
    )
)
def test_the_batch_is_the_maximum_of_its_boxes_one_by_one(objects: list) -> None:
    expected = np.zeros((3, 6, 9))
    for x, y, r, plane in objects:
        sigma = (2 * r + 1) / 6
        for row in range(max(y - r, 0), min(y + r + 1, 6)):
            for column in range(max(x - r, 0), min(x + r + 1, 9)):
                value = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
                expected[plane, row, column] = max(expected[plane, row, column], value)
    heat = draw(
        [o[:2] for o in objects], [o[2] for o in objects], [o[3] for o in objects], 3, (6, 9)
    )
    np.testing.assert_allclose(heat.numpy(), expected, atol=1e-6)
    assert all(heat[plane, y, x] == 1 for x, y, _, plane in objects)


def test_touched_cells_by_hand() -> None:
    boxes = torch.tensor([[0.5, 1.0, 2.0, 1.1], [2.5, 2.0, 2.5, 3.0], [-5.0, -5.0, 0.5, 0.5]])
    planes = torch.tensor([0, 0, 1])
    found = cells_in_boxes(boxes, planes, 2, (3, 4)).int().tolist()
    assert found == [
        [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]],  # x 0.5..2 touches cells 0 and 1, not 2
        [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
