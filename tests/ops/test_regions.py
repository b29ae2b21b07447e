from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align, roi_pool

from detzoo.ops.regions import align, warp

SHAPES, STRIDES = [(12, 16), (6, 8), (3, 4)], [4, 8, 16]


def problem(seed: int, regions: int = 9, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 5, *s, generator=generator, dtype=dtype) for s in SHAPES]
    corner = torch.rand(regions, 2, generator=generator, dtype=dtype) * 90 - 20
    side = torch.rand(regions, 2, generator=generator, dtype=dtype) * 60 - 5  # some without area
    image = torch.randint(0, 2, (regions,), generator=generator)
    level = torch.randint(0, 3, (regions,), generator=generator)
    return maps, torch.cat([corner, corner + side], 1), image, level


def theirs(maps, boxes, image, level, aligned, ratio):
    out = boxes.new_zeros(len(boxes), 5, 3, 3)
    for i, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
        rows = level == i
        rois = torch.cat([image[rows, None].to(boxes), boxes[rows]], 1)
        out[rows] = roi_align(x, rois, 3, 1 / stride, ratio, aligned)
    return out


def ours(maps, boxes, image, level, aligned, ratio):
    options = {"size": 3, "sampling_ratio": ratio, "aligned": aligned}
    return align(maps, STRIDES, boxes, image, level, **options)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(1, 3))
def test_values_are_torchvisions(seed, aligned, ratio):
    arguments = *problem(seed), aligned, ratio
    torch.testing.assert_close(ours(*arguments), theirs(*arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_gradients_of_the_maps_are_torchvisions(aligned):
    maps, boxes, image, level = problem(0)
    maps = [x.requires_grad_() for x in maps]
    weight = torch.randn(len(boxes), 5, 3, 3)
    grads = [
        torch.autograd.grad((f(maps, boxes, image, level, aligned, 2) * weight).sum(), maps)
        for f in (ours, theirs)
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_box_has_a_gradient_too():
    """By finite differences: moving a box moves its samples, which RoI Pool does not show."""
    maps = problem(2, dtype=torch.float64)[0]
    boxes = torch.tensor([[9.0, 7.3, 30.1, 28.9]], dtype=torch.float64, requires_grad=True)
    one = torch.zeros(1, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda b: ours(maps, b, one, one, True, 2), boxes)


def test_no_regions():
    maps, boxes, image, level = problem(0, regions=0)
    assert ours(maps, boxes, image, level, True, 2).shape == (0, 5, 3, 3)


# -- the two operations, word by word -------------------------------------------------------------


def pool_by_loops(x, box, size, scale):
    """1504.08083, section 2.1: corners rounded to whole cells, inclusive; a maximum of each bin."""
    x1, y1, x2, y2 = (math.floor(v * scale + 0.5) for v in box.tolist())
    height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    out = x.new_zeros(len(x), size, size)
    for i in range(size):
        top, bottom = y1 + i * height // size, y1 - (-(i + 1) * height // size)
        top, bottom = (min(max(v, 0), x.shape[1]) for v in (top, bottom))
        for j in range(size):
            left, right = x1 + j * width // size, x1 - (-(j + 1) * width // size)
            left, right = (min(max(v, 0), x.shape[2]) for v in (left, right))
            if bottom > top and right > left:
                out[:, i, j] = x[:, top:bottom, left:right].amax((1, 2))
    return out


def align_by_loops(x, box, size, scale, ratio):
    """1703.06870, section 3: no rounding; a bin is the mean of ratio^2 bilinear samples."""
    x1, y1, x2, y2 = (box * scale - 0.5).tolist()
    out = x.new_zeros(len(x), size, size)
    for i in range(size):
        for j in range(size):
            for a in range(ratio):
                for b in range(ratio):
                    v = y1 + (y2 - y1) * (i + (a + 0.5) / ratio) / size
                    u = x1 + (x2 - x1) * (j + (b + 0.5) / ratio) / size
                    out[:, i, j] += bilinear(x, v, u) / ratio**2
    return out


def bilinear(x, v, u):
    rows, columns = x.shape[1:]
    if not (-1 <= v <= rows and -1 <= u <= columns):
        return 0
    v, u = min(max(v, 0), rows - 1), min(max(u, 0), columns - 1)
    top, left = min(int(v), rows - 1), min(int(u), columns - 1)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    v, u = v - top, u - left
    upper = (1 - u) * x[:, top, left] + u * x[:, top, right]
    lower = (1 - u) * x[:, bottom, left] + u * x[:, bottom, right]
    return (1 - v) * upper + v * lower


@pytest.mark.parametrize("seed", range(3))
def test_the_operations_are_what_the_papers_say(seed):
    maps, boxes, _, _ = problem(seed, regions=12)
    x, stride = maps[0][:1], STRIDES[0]
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    zero = torch.zeros(len(boxes), dtype=torch.int64)
    pooled = roi_pool(x, rois, 3, 1 / stride)
    aligned = align([x], [stride], boxes, zero, zero, size=3, sampling_ratio=2)
    for i, box in enumerate(boxes):
        torch.testing.assert_close(pooled[i], pool_by_loops(x[0], box, 3, 1 / stride))
        expected = align_by_loops(x[0], box, 3, 1 / stride, 2)
        torch.testing.assert_close(aligned[i], expected, rtol=1e-4, atol=1e-5)


def test_align_moves_smoothly_and_pool_in_jumps():
    """A box is shifted by a cell in 32 steps. Pool is constant except for one jump, and so has no
    gradient to the box; Align changes at every step, each time by little."""
    x = torch.arange(16.0).expand(1, 1, 16, 16).contiguous()  # the value is the column
    shift = torch.arange(33.0)[:, None] * 4 / 32
    boxes = torch.tensor([[16.0, 16, 44, 44]]) + shift * torch.tensor([1.0, 0, 1, 0])
    rois = torch.cat([torch.zeros(33, 1), boxes], 1)
    pooled = roi_pool(x, rois, 2, 1 / 4)[:, 0, 0, 0].diff()
    aligned = roi_align(x, rois, 2, 1 / 4, 2, True)[:, 0, 0, 0].diff()
    assert sorted(pooled.tolist()) == [0.0] * 31 + [1.0]
    torch.testing.assert_close(aligned, torch.full((32,), 1 / 32))
    boxes, one = boxes[:1].requires_grad_(), torch.zeros(1, dtype=torch.int64)
    value = align([x], [4], boxes, one, one, size=2, sampling_ratio=2).sum()
    gradient = torch.autograd.grad(value, boxes)[0]
    torch.testing.assert_close(gradient, torch.tensor([[0.5, 0, 0.5, 0]]))


# -- warped crops ---------------------------------------------------------------------------------


def test_a_warp_by_hand():
    """On an image whose value is its column: the region fills all but the context."""
    x = torch.arange(40.0).expand(1, 1, 40, 40).contiguous()
    region = torch.tensor([[0.0, 12, 10, 20, 26]])
    plain = warp(x, region, 8, 0)[0, 0]
    assert plain[3].tolist() == [12.0, 13, 14, 15, 16, 17, 18, 19]  # pixel i has its centre at i
    # With 2 of 8 on each side the 4 in the middle show the region: a crop pixel is 2 wide.
    around = warp(x, region, 8, 2)[0, 0]
    assert around[3].tolist() == [8.5, 10.5, 12.5, 14.5, 16.5, 18.5, 20.5, 22.5]


def test_beyond_the_image_a_warp_is_zero():
    x = torch.ones(2, 3, 20, 20)
    regions = torch.tensor([[1.0, -20, 0, 20, 20], [0, 5, 5, 5, 15], [1, 90, 90, 99, 99]])
    crops = warp(x, regions, 8, 0)
    assert crops.shape == (3, 3, 8, 8) and crops.isfinite().all()
    assert (crops[0, ..., :3] == 0).all() and (crops[0, ..., 4:] == 1).all()
    assert (crops[2] == 0).all()
    assert warp(x, regions[:0], 8, 2).shape == (0, 3, 8, 8)
