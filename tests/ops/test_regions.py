from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from detzoo.ops.regions import align

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
    """By finite differences: moving a box moves its samples, which RoI Pool cannot tell."""
    maps = problem(2, dtype=torch.float64)[0]
    boxes = torch.tensor([[9.0, 7.3, 30.1, 28.9]], dtype=torch.float64, requires_grad=True)
    one = torch.zeros(1, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda b: ours(maps, b, one, one, True, 2), boxes)


def test_no_regions():
    maps, boxes, image, level = problem(0, regions=0)
    assert ours(maps, boxes, image, level, True, 2).shape == (0, 5, 3, 3)
