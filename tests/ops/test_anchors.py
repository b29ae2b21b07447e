from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detzoo.nn import Anchors
from detzoo.ops.anchors import (
    cell_anchors,
    cluster,
    default_boxes,
    per_anchor,
    pyramid_anchors,
    size_iou,
)


def test_cell_anchors_by_hand():
    # 32 x 32 = 1024 px of area each; ratio is height over width; the ratio runs slowest.
    anchors = cell_anchors([32.0, 64.0], [0.25, 1.0])
    assert anchors.tolist() == [
        [-32, -8, 32, 8],
        [-64, -16, 64, 16],
        [-16, -16, 16, 16],
        [-32, -32, 32, 32],
    ]


def test_pyramid_by_hand():
    strides = ((8, 8), (16, 16))
    anchors = pyramid_anchors(((1, 2), (1, 1)), strides, ((8.0,), (16.0,)), (1.0,))
    assert anchors.tolist() == [[-4, -4, 4, 4], [4, -4, 12, 4], [-8, -8, 8, 8]]


@pytest.mark.parametrize("size", [(64, 96), (96, 160), (100, 70)])
def test_as_torchvision_has_them(size):
    sizes = ((32, 40, 50), (64, 80, 101), (128, 161, 203))
    shapes = [(-(-size[0] // s), -(-size[1] // s)) for s in (8, 16, 32)]
    maps = [torch.zeros(1, 1, *shape) for shape in shapes]
    theirs = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    expected = theirs(ImageList(torch.zeros(1, 3, *size), [size]), maps)[0]
    ours = Anchors((8, 16, 32), sizes, (0.5, 1.0, 2.0), as_torchvision=True)(maps, size)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_sizes_that_do_not_fit_the_levels_are_refused():
    with pytest.raises(ValueError, match="2 lists of one length"):
        Anchors((8, 16), [[32.0]], (1.0,))
    with pytest.raises(ValueError, match="2 lists of one length"):
        Anchors((8, 16), [[32.0], [64.0, 80.0]], (1.0,))


def test_per_anchor_has_the_anchors_order():
    # Two anchors a cell, one number each: channel a of cell (i, j) is number (i * 3 + j) * 2 + a.
    values = torch.arange(12.0).view(2, 3, 2).permute(2, 0, 1)[None]  # (1, A, 2, 3)
    assert per_anchor([values], 1).flatten().tolist() == list(range(12))
    assert per_anchor([values, values[..., :1, :1]], 2).shape == (1, 7, 2)


SSD300 = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))


def test_default_boxes_by_hand():
    # One map of one cell, s = 0.25, s' = sqrt(0.25 * 1) = 0.5, ratio 4: sides 0.5 and 0.125.
    boxes = default_boxes(((1, 1),), (80, 160), (0.25, 1.0), ((4.0,),))
    assert boxes.tolist() == [
        [60, 30, 100, 50],
        [40, 20, 120, 60],
        [40, 35, 120, 45],
        [70, 20, 90, 60],
    ]
    steps = default_boxes(((2, 2),), (16, 16), (0.125, 0.125), ((),), (8.0,))
    assert steps[::2].tolist() == [[3, 3, 5, 5], [11, 3, 13, 5], [3, 11, 5, 13], [11, 11, 13, 13]]


def test_default_boxes_are_as_many_as_the_paper_says_and_where_torchvision_has_them():
    scales, steps = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), (8, 16, 32, 64, 100, 300)
    theirs = DefaultBoxGenerator([[int(r) for r in k] for k in RATIOS], scales=scales, steps=steps)
    maps = [torch.zeros(1, 1, *shape) for shape in SSD300]
    expected = theirs(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0]
    ours = default_boxes(SSD300, (300, 300), scales, RATIOS, steps)
    assert ours.shape == (8732, 4)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_clusters_of_sizes():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[10.0, 30.0], [40.0, 20.0], [60.0, 90.0]])
    sizes = centres.repeat(50, 1) + torch.rand(150, 2, generator=generator) - 0.5
    found = cluster(sizes[torch.randperm(150, generator=generator)], 3)
    assert (found - centres).abs().max() < 0.2  # by area: 300, 800, 5400
    # IoU of sizes 2 x 4 and 4 x 2 about one centre: 4 / (8 + 8 - 4)
    assert size_iou(torch.tensor([[2.0, 4]]), torch.tensor([[4.0, 2]])).item() == pytest.approx(
        1 / 3
    )
    with pytest.raises(ValueError, match="4 anchors are asked of 3 boxes"):
        cluster(centres, 4)
