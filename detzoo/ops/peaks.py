"""Peaks of heatmaps. Shape letters: B images, K classes, H W the map, N peaks requested."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detzoo.ops import fast
from detzoo.ops.constants import constant


def is_peak(heat: Tensor) -> Tensor:
    """(..., H, W) -> (..., H, W) bool: no smaller than its 8 neighbours (1904.07850, section 3).

    Of equal neighbours all are peaks.
    """
    return heat >= fast.max_pool2d(heat)


def without_padding(heat: Tensor, sizes: Sequence[tuple[int, int]] | Tensor, stride: int) -> Tensor:
    """(B, ..., H, W) -> (B, ..., H, W): -inf in cells outside an image's (height, width).

    The sizes, numbers or a tensor (B, 2) of them, are in input pixels, `stride` of which are a
    cell.
    """
    height, width = heat.shape[-2:]
    known = not isinstance(sizes, Tensor)
    if known and all(h > (height - 1) * stride and w > (width - 1) * stride for h, w in sizes):
        return heat  # a copy of all classes' maps is not for nothing
    limits = constant(sizes, heat.device) / stride  # (B, 2)
    rows = torch.arange(height, device=heat.device) < limits[:, :1]  # (B, H)
    columns = torch.arange(width, device=heat.device) < limits[:, 1:]  # (B, W)
    inside = rows[:, :, None] & columns[:, None, :]
    inside = inside.view(len(heat), *[1] * (heat.dim() - 3), height, width)
    return heat.masked_fill(~inside, -torch.inf)


def at_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, C, H, W), (B, N) indices y * W + x -> (B, C, N) float32: the maps' values there."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).float()


def top_peaks(heat: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, K, H, W) -> values, labels and cells, each (B, N) with N = min(count, K * H * W).

    The highest peaks of all classes, best first; cells are indices y * W + x. Where an image has
    fewer than N peaks, the rest have value -inf. heat may be logits: order is all that counts.
    """
    plane = heat.shape[2] * heat.shape[3]
    maps = heat.flatten(0, 1)  # (B * K, H, W)
    peaks = fast.in_chunks(lambda x: torch.where(is_peak(x), x, -torch.inf), maps).view_as(heat)
    values, index = fast.topk(peaks.flatten(1), min(count, peaks[0].numel()))
    return values, index // plane, index % plane
