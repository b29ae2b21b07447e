from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from detzoo.ops.peaks import at_cells, is_peak, top_peaks, without_padding


def test_peaks_by_hand() -> None:
    heat = torch.tensor(
        [
            [5.0, 1.0, 0.0, 0.0],
            [1.0, 4.0, 0.0, 2.0],  # 4 touches 5 at a corner: no peak
            [0.0, 0.0, 0.0, 2.0],  # equal neighbours: both
        ]
    )
    assert is_peak(heat).int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7), st.booleans())
def test_the_same_as_a_3x3_max_pool(seed: int, height: int, width: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    heat = torch.randn(2, 3, height, width, generator=generator)
    heat = heat.round() if ties else heat
    assert torch.equal(is_peak(heat), heat == F.max_pool2d(heat, 3, 1, 1))


def test_top_peaks_of_all_classes_best_first() -> None:
    heat = torch.zeros(2, 2, 3, 4) - 9
    heat[0, 1, 2, 3] = 7.0  # cell 2 * 4 + 3
    heat[0, 0, 0, 1] = 8.0
    heat[0, 0, 0, 2] = 6.0  # beside a higher one
    heat[1, 1, 1, 0] = 5.0
    values, labels, cells = top_peaks(heat, 2)
    assert values[0].tolist() == [8, 7] and values[1, 0] == 5
    assert labels[0].tolist() == [0, 1] and labels[1, 0] == 1
    assert cells[0].tolist() == [1, 11] and cells[1, 0] == 4


@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([(16, 16), (7, 9), (8, 32)]))
def test_the_best_of_many_are_those_of_topk(seed: int, count: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    heat = torch.randn(2, 9, *shape, generator=generator)
    values, labels, cells = top_peaks(heat, count)
    peaks = torch.where(is_peak(heat), heat, -torch.inf).flatten(1)
    assert torch.equal(values, peaks.topk(count).values)
    plane = shape[0] * shape[1]
    assert torch.equal(values, peaks.gather(1, labels * plane + cells))


def test_fewer_peaks_than_asked_for() -> None:
    heat = torch.tensor([[[[1.0, 2.0], [0.0, 1.5]]]])
    values, labels, cells = top_peaks(heat, 100)
    assert values.tolist() == [[2.0, -torch.inf, -torch.inf, -torch.inf]]
    assert cells[0, 0] == 1 and labels.tolist() == [[0] * 4]


def test_padding_holds_no_peak() -> None:
    """A 10 x 12 image of cells of 4: rows 0..2 and columns 0..2 hold some of it."""
    heat = torch.zeros(2, 1, 4, 5)
    found = without_padding(heat, [(10, 12), (16, 20)], 4)
    assert (found[0, 0] == 0).int().tolist() == [[1, 1, 1, 0, 0]] * 3 + [[0] * 5]
    assert (found[1] == 0).all()


def test_values_at_cells() -> None:
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert at_cells(maps, torch.tensor([[5, 0]])).tolist() == [[[5, 0], [17, 12]]]
