"""RoI Align as a weighted sum of feature rows (1703.06870, section 3).

Shape letters: B images, C channels, R regions, S bins along a side, T rows of all maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from detzoo.ops.constants import constant


def align(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    *,
    size: int,
    sampling_ratio: int,
    aligned: bool = True,
) -> Tensor:
    """torchvision's `roi_align` over several maps at once: (R, C, size, size), channels last.

    maps: per level (B, C, h, w). boxes: (R, 4) xyxy in input pixels; image, level: (R,) int64, the
    map that each is read from. Every bin is the mean of sampling_ratio^2 bilinear samples, and each
    of these a weighted sum of four cells; so a bin is one bag of rows of the (T, C) table of all
    cells, which a CPU reads in long rows where torchvision's walks through channels one by one.
    """
    channels = maps[0].shape[1]
    table = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, channels) for x in maps])  # (T, C)
    heights, widths, counts = (
        constant(values, boxes.device, torch.int64)
        for values in zip(*[(x.shape[2], x.shape[3], x[:, 0].numel()) for x in maps], strict=True)
    )
    height, width = heights[level], widths[level]  # (R,)
    first = (counts.cumsum(0) - counts)[level] + image * height * width  # (R,) the map's first row
    scale = 1 / constant(strides, boxes.device, boxes.dtype)[level]
    corners = boxes * scale[:, None] - (0.5 if aligned else 0.0)
    sides = corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = sides.clamp(min=1)

    samples = size * sampling_ratio
    at = (torch.arange(samples, device=boxes.device) + 0.5) / samples
    x, x_weight = _neighbours(corners[:, :1] + at * sides[:, :1], width[:, None])
    y, y_weight = _neighbours(corners[:, 1:2] + at * sides[:, 1:], height[:, None])
    bins = (len(boxes), size, 2 * sampling_ratio)  # every sample has two neighbours on an axis
    x, x_weight, y, y_weight = (t.view(bins) for t in (x, x_weight, y, y_weight))
    rows = first[:, None, None] + y * width[:, None, None]  # (R, S, 2 * sampling_ratio)
    cells = rows[:, :, None, :, None] + x[:, None, :, None, :]  # (R, S, S, ..., ...)
    weights = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :] / sampling_ratio**2
    bags = F.embedding_bag(
        cells.flatten(3).flatten(0, 2),
        table,
        mode="sum",
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(table.dtype),
    )  # (R * S * S, C)
    return bags.view(len(boxes), size, size, channels).permute(0, 3, 1, 2)


def _neighbours(position: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """(R, N) positions on an axis of (R, 1) cells -> (R, N, 2) cells on both sides, their weights.

    Up to a cell outside, the border's value holds; further out it is nothing, as in torchvision.
    """
    inside = (position >= -1) & (position <= length)
    position = position.clamp(min=0).minimum((length - 1).to(position.dtype))
    low = position.detach().floor().long()
    high = (low + 1).minimum(length - 1)
    share = position - low
    weights = torch.stack([1 - share, share], -1) * inside[..., None]
    return torch.stack([low, high], -1), weights


def warp(pixels: Tensor, regions: Tensor, size: int, context: int) -> Tensor:
    """(B, C, H, W), (R, 5) image and xyxy -> (R, C, size, size), whatever the region's shape.

    The region fills the crop except for `context` pixels on each side, which show its surroundings
    (1311.2524, appendix A); outside the image there are zeros. Resampled as by RoI Align with
    enough samples, so bilinear, and antialiased where it shrinks. Without gradient.
    """
    crops = torch.cat([regions[:, :1], with_context(regions[:, 1:], size, context)], 1)
    return roi_align(pixels, crops, size, 1.0, sampling_ratio=-1, aligned=True)


def with_context(boxes: Tensor, size: int, context: int) -> Tensor:
    """(R, 4) xyxy -> (R, 4): the area of a crop of `size` pixels, `context` of them on each
    side."""
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half * (size / (size - 2 * context))
    return torch.cat([centre - half, centre + half], 1)
