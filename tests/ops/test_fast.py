"""What a CPU computes in another way, against its plain form."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.ops import fast
from detzoo.ops.fast import FEW, best_by_nms, grouped_nms, in_chunks, max_pool2d, softplus, topk


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 700), st.integers(1, 9))
def test_the_largest_are_those_of_topk(seed, length, count):
    torch.manual_seed(seed)
    values = torch.randperm(2 * length)[: 2 * length].view(2, length).float()  # no two are equal
    count = min(count, length)
    for found, expected in zip(topk(values, count), values.topk(count), strict=True):
        assert torch.equal(found, expected)


def test_softplus_to_its_last_digits():
    x = torch.tensor([-1e4, -100.0, -30, -15, -1, 0, 1, 15, 100, 1e4])
    torch.testing.assert_close(softplus(x).double(), F.softplus(x.double()), rtol=5e-7, atol=1e-44)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 7, 5), (2, 3, 16, 1)])
def test_max_pool2d_is_torchs(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).round()
    assert torch.equal(max_pool2d(x), F.max_pool2d(x, 3, stride=1, padding=1))


@pytest.mark.parametrize("piece", [1, 50, 10**6])
def test_pieces_are_the_whole(piece):
    x = torch.randn(5, 4, 6)
    with mock.patch.object(fast, "CHUNK", piece):
        assert torch.equal(in_chunks(max_pool2d, x), max_pool2d(x))
        assert in_chunks(max_pool2d, x[:0]).shape == (0, 4, 6)


def test_a_column_more_changes_no_convolution_of_stride_2():
    layer = torch.nn.Conv2d(2, 3, 3, stride=2, padding=1)
    for width in (1, 2, 5):
        x = torch.randn(1, 2, 4, width)
        torch.testing.assert_close(layer(fast.at_least_two_columns(x)), layer(x))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(1, 20), st.integers(1, 8))
def test_the_best_by_nms_are_the_first_of_nms(seed, number, count, few):
    torch.manual_seed(seed)
    corner = torch.rand(number, 2) * 30  # close, so that the best few seldom are enough
    boxes = torch.cat([corner, corner + torch.rand(number, 2) * 40 + 10], 1)
    scores, groups = torch.randint(0, 20, (number,)) / 20, torch.randint(0, 3, (number,))
    expected = grouped_nms(boxes, scores, groups, 0.4)[:count]
    with mock.patch.object(fast, "FEW", few):
        assert torch.equal(best_by_nms(boxes, scores, groups, 0.4, count), expected)


def test_groups_stay_apart_exactly():
    # IoU 0.4995 in the 80,000th group: float32 shifts of 8e7 px would round the boxes away.
    boxes = torch.tensor([[0.0, 0, 1000, 1000], [0, 0, 1000, 499.5]])
    group = torch.full((2,), 80_000)
    assert grouped_nms(boxes, torch.tensor([0.9, 0.8]), group, 0.499).tolist() == [0]
    assert grouped_nms(boxes, torch.tensor([0.9, 0.8]), group, 0.5).tolist() == [0, 1]


def test_many_boxes_are_suppressed_as_few_are():
    torch.manual_seed(0)
    corner = torch.rand(2 * FEW, 2) * 60
    boxes = torch.cat([corner, corner + torch.rand(2 * FEW, 2) * 40 + 1], 1)
    scores, groups = torch.rand(2 * FEW), torch.randint(0, 40, (2 * FEW,))
    groups[-1] = 41  # alone in its group
    kept = grouped_nms(boxes, scores, groups, 0.4)
    expected = torch.cat(
        [
            members[grouped_nms(boxes[members], scores[members], groups[members], 0.4)]
            for members in ((groups == g).nonzero().squeeze(1) for g in groups.unique())
        ]
    )
    assert torch.equal(kept, expected[scores[expected].argsort(descending=True)])
    assert (scores[kept].diff() <= 0).all() and len(kept) < len(boxes)
