from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detzoo.nn import Anchors
from detzoo.ops.anchors import cell_anchors, per_anchor, pyramid_anchors


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
