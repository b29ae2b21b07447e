from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from detzoo.ops import boxes as ops

corner = st.floats(-100, 100, width=32)
side = st.floats(0.5, 200, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
boxes = st.lists(box, min_size=1, max_size=8).map(torch.tensor)


def test_area_and_intersection_by_hand():
    a = torch.tensor([[0.0, 0, 4, 2], [3, 3, 1, 5]])  # the second is inverted
    b = torch.tensor([[2.0, 1, 6, 5], [4, 0, 5, 2]])  # the second only touches the first's edge
    assert ops.area(a).tolist() == [8, 0]
    assert ops.intersection(a, b).tolist() == [[2, 0], [0, 0]]
    assert ops.iou(a, b)[0].tolist() == pytest.approx([2 / (8 + 16 - 2), 0])
    assert ops.covered(a, b)[0].tolist() == pytest.approx([2 / 8, 0])


def test_leading_dimensions_broadcast():
    a, b = torch.rand(3, 5, 4).cumsum(-1), torch.rand(3, 2, 4).cumsum(-1)
    for function in (ops.iou, ops.covered):
        assert torch.equal(function(a, b), torch.stack([function(a[i], b[i]) for i in range(3)]))
        assert torch.equal(function(a[:1], b)[2], function(a[0], b[2]))


def test_boxes_without_area_have_no_iou():
    point = torch.tensor([[5.0, 5, 5, 5]])
    assert ops.iou(point, point).item() == 0
    assert ops.iou(torch.zeros(0, 4), point).shape == (0, 1)


@given(boxes, boxes)
def test_iou_is_torchvisions(a, b):
    torch.testing.assert_close(ops.iou(a, b), box_iou(a, b), rtol=1e-4, atol=1e-6)


def test_encode_by_hand():
    anchor = torch.tensor([0.0, 0, 10, 20])  # centre (5, 10)
    truth = torch.tensor([5.0, 10, 25, 20])  # centre (15, 15), twice as wide and half as high
    deltas = ops.encode(anchor, truth)
    assert deltas.tolist() == pytest.approx([1.0, 0.25, math.log(2), -math.log(2)])
    weighted = ops.encode(anchor, truth, (10, 10, 5, 5))
    assert weighted.tolist() == pytest.approx([10.0, 2.5, 5 * math.log(2), -5 * math.log(2)])


@given(boxes, box, st.sampled_from([(1, 1, 1, 1), (10, 10, 5, 5)]))
def test_decode_inverts_encode(anchors, truth, weights):
    truth = torch.tensor(truth).expand_as(anchors)
    moved = ops.decode(anchors, ops.encode(anchors, truth, weights), weights)
    sizes = truth[:, 2:] - truth[:, :2]
    bounded = (sizes / (anchors[:, 2:] - anchors[:, :2]) < 1000 / 16).all(1)
    torch.testing.assert_close(moved[bounded], truth[bounded], rtol=1e-4, atol=1e-2)


def test_decode_bounds_the_size():
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    moved = ops.decode(anchor, torch.tensor([[0.0, 0, 50, 0]]))
    assert moved[0].tolist() == pytest.approx([8 - 500, 0, 8 + 500, 16])


def test_clip_cuts_each_image_to_its_own_size():
    b = torch.tensor([[-5.0, -5, 50, 50]]).expand(2, 1, 4)
    assert ops.clip(b, [(20, 30), (40, 10)]).tolist() == [[[0, 0, 30, 20]], [[0, 0, 10, 40]]]
