"""Anchors: reference boxes on every cell of a feature map, in the order rows, columns, shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], rounded: bool = False) -> Tensor:
    """(A, 4): one cell's anchors about the origin, A = len(ratios) * len(sizes), ratio first.

    sizes: square roots of the areas, in pixels. ratios: height over width. rounded: corners on
    whole pixels, as torchvision has them (and its published weights were trained).
    """
    ratio = torch.tensor(ratios, dtype=torch.float32).sqrt()
    size = torch.tensor(sizes, dtype=torch.float32)
    height = (ratio[:, None] * size).flatten()
    width = (1 / ratio[:, None] * size).flatten()
    anchors = torch.stack([-width, -height, width, height], 1) / 2
    return anchors.round() if rounded else anchors


@lru_cache(maxsize=64)
def pyramid_anchors(
    shapes: tuple[tuple[int, int], ...],
    strides: tuple[tuple[int, int], ...],
    sizes: tuple[tuple[float, ...], ...],
    ratios: tuple[float, ...],
    rounded: bool = False,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(N, 4): the anchors of all maps, one after the other; kept, since shapes repeat.

    shapes: (rows, columns) of every map, strides: (down, across). sizes: per map. Cell (i, j)'s
    anchors are centred on (j * across, i * down), where the receptive field of a cell of
    stacked 3x3 stride-2 convolutions with padding 1 is centred too (to half a pixel). Do not write
    into the result.
    """
    levels = []
    for (rows, columns), (down, across), level_sizes in zip(shapes, strides, sizes, strict=True):
        y = torch.arange(rows, dtype=torch.float32) * down
        x = torch.arange(columns, dtype=torch.float32) * across
        centre = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).repeat(1, 1, 2)
        anchors = centre[:, :, None] + cell_anchors(level_sizes, ratios, rounded)
        levels.append(anchors.reshape(-1, 4))
    return torch.cat(levels).to(device, non_blocking=True)


def per_anchor(maps: Sequence[Tensor], width: int) -> Tensor:
    """[(B, A * width, H, W)] -> (B, N, width): head outputs in `pyramid_anchors`' order."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, width) for x in maps], 1)


@lru_cache(maxsize=64)
def default_boxes(
    shapes: tuple[tuple[int, int], ...],
    size: tuple[int, int],
    scales: tuple[float, ...],
    ratios: tuple[tuple[float, ...], ...],
    steps: tuple[float, ...] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(N, 4) xyxy pixels: SSD's default boxes of all maps, rows, columns, shapes (section 2.2).

    shapes: (rows, columns) of every map. size: (height, width) of the input, all sizes are shares
    of it. scales: one per map and one more: map k has squares of s_k and sqrt(s_k s_{k+1}), and for
    each of its ratios r boxes of s_k sqrt(r) by s_k / sqrt(r), lying and standing; none is larger
    than the image. A cell's boxes are centred on it; cells share the image evenly, or are `steps`
    pixels apart. Do not write into the result.
    """
    levels = []
    for k, (rows, columns) in enumerate(shapes):
        s, middle = scales[k], math.sqrt(scales[k] * scales[k + 1])
        sides = [(s, s), (middle, middle)]
        for r in map(math.sqrt, ratios[k]):
            sides += [(s * r, s / r), (s / r, s * r)]
        half = torch.tensor(sides).clamp(max=1) / 2  # (A, 2)
        down, across = 1 / rows, 1 / columns
        if steps:
            down, across = steps[k] / size[0], steps[k] / size[1]
        y = (torch.arange(rows) + 0.5) * down
        x = (torch.arange(columns) + 0.5) * across
        centre = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[:, :, None]
        levels.append(torch.cat([centre - half, centre + half], -1).reshape(-1, 4))
    boxes = torch.cat(levels).mul(torch.tensor([size[1], size[0]] * 2))
    return boxes.to(device, non_blocking=True)


def cluster(sizes: Tensor, count: int, iterations: int = 300) -> Tensor:
    """(M, 2) widths and heights -> (count, 2): k-means with the distance 1 - IoU, smallest first.

    IoU of two sizes: of boxes about one centre (YOLO9000, 1612.08242, section 2). It starts from
    boxes evenly spaced by area, so that the same boxes give the same anchors. Raises ValueError for
    fewer boxes than anchors.
    """
    if len(sizes) < count:
        raise ValueError(f"{count} anchors are asked of {len(sizes)} boxes; ask for fewer")
    sizes = sizes[sizes.prod(1).argsort(stable=True)].double()
    start = (torch.arange(count) + 0.5) * len(sizes) / count
    centres = sizes[start.long()].clone()
    nearest = None
    for _ in range(iterations):
        before, nearest = nearest, size_iou(sizes, centres).argmax(1)
        if before is not None and torch.equal(before, nearest):
            break
        members = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, sizes)
        centres = torch.where(members[:, None] > 0, sums / members[:, None].clamp(min=1), centres)
    return centres[centres.prod(1).argsort()].float()


def size_iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 2), (..., M, 2) -> (..., N, M): IoU of widths and heights about one centre."""
    overlap = torch.minimum(a[..., :, None, :], b[..., None, :, :]).prod(-1)
    union = a.prod(-1)[..., :, None] + b.prod(-1)[..., None, :] - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)
