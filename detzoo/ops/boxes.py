"""Boxes as (..., 4) tensors, xyxy, continuous coordinates: width = x2 - x1, no +1 anywhere.

A function of two box sets is named by direction, reference first. Shape letters: N and M boxes;
"..." are leading dimensions, such as a batch, which broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detzoo.ops.constants import constant

# A size of exp(d) times an anchor's is not believed beyond 1000 / 16: the longest side of an image
# over Faster R-CNN's stride.
LARGEST_DELTA = math.log(1000 / 16)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...): areas in square pixels; an inverted box has area 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M): the area of every overlap."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    top_left = torch.maximum(a[..., :2], b[..., :2])
    bottom_right = torch.minimum(a[..., 2:], b[..., 2:])
    return (bottom_right - top_left).clamp(min=0).prod(-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M): intersection over union, 0 without any area."""
    return over_union(intersection(a, b), area(a)[..., :, None], area(b)[..., None, :])


def over_union(overlap: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """An overlap and the areas of its two boxes -> IoU, 0 without any area."""
    union = a + b - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M): generalised IoU, in (-1, 1] (1902.09630).

    The IoU less the share of the smallest box around both that neither covers.
    """
    overlap = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - overlap
    top_left = torch.minimum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = torch.maximum(a[..., :, None, 2:], b[..., None, :, 2:])
    hull = (bottom_right - top_left).clamp(min=0).prod(-1)
    least = torch.finfo(union.dtype).tiny
    return overlap / union.clamp(min=least) - (hull - union) / hull.clamp(min=least)


def covered(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M): the share of each box of `a` that one of `b` covers.

    COCO's rule for crowds: intersection over the area of the detection, not over the union.
    """
    return intersection(a, b) / area(a)[..., :, None].clamp(min=torch.finfo(a.dtype).tiny)


def to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (..., 4) centre x, centre y, width, height."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def from_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) centre x, centre y, width, height -> (..., 4) xyxy."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def encode(anchors: Tensor, boxes: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """(..., 4), (..., 4) -> (..., 4): the deltas that `decode` turns back into `boxes`.

    t = w * ((x - x_a) / w_a, (y - y_a) / h_a, log(w / w_a), log(h / h_a)), R-CNN's parametrisation
    (1311.2524, appendix C). Both must have an area.
    """
    a, b = to_cxcywh(anchors), to_cxcywh(boxes)
    shift = (b[..., :2] - a[..., :2]) / a[..., 2:]
    scale = torch.log(b[..., 2:] / a[..., 2:])
    return torch.cat([shift, scale], -1) * constant(weights, shift.device, shift.dtype)


def decode(anchors: Tensor, deltas: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """(..., 4), (..., 4) -> (..., 4): the inverse of `encode`, sizes bounded by LARGEST_DELTA."""
    a = to_cxcywh(anchors)
    deltas = deltas.float() / constant(weights, deltas.device)
    centre = a[..., :2] + deltas[..., :2] * a[..., 2:]
    half = a[..., 2:] * deltas[..., 2:].clamp(max=LARGEST_DELTA).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, sizes: Sequence[tuple[int, int]] | Tensor) -> Tensor:
    """(B, ..., 4) -> (B, ..., 4): every image's boxes cut to its (height, width).

    sizes: numbers, or a tensor (B, 2) of them.
    """
    if isinstance(sizes, Tensor):
        limit = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)
    else:
        limit = constant([(w, h, w, h) for h, w in sizes], boxes.device, boxes.dtype)
    limit = limit.view(len(sizes), *[1] * (boxes.dim() - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limit)
