"""Anchors: reference boxes on every cell of a feature map, in the order rows, columns, shapes."""

from __future__ import annotations

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
    return torch.cat(levels).to(device)


def per_anchor(maps: Sequence[Tensor], width: int) -> Tensor:
    """[(B, A * width, H, W)] -> (B, N, width): head outputs in `pyramid_anchors`' order."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, width) for x in maps], 1)
