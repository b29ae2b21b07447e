"""Gaussian heatmap targets: how wide, and drawn for a whole batch at once.

Cells are cells of the output map: cell (y, x) covers [x, x + 1) by [y, y + 1) in its pixels.
Shape letters: N objects of all images together, P planes (image and class), H W the output map.
"""

from __future__ import annotations

import torch
from torch import Tensor

READINGS = ("published", "correct")


def radius(sizes: Tensor, overlap: float = 0.7, reading: str = "published") -> Tensor:
    """(..., 2) widths and heights -> (...): how far both corners may move, in the sizes' pixels.

    CornerNet (1808.01244, section 3.2) wants the largest r such that a box whose two corners are
    each within r of an object's still has an IoU of at least t = `overlap` with the object (w, h).
    When each corner moves by r in x and in y there are three cases, each a quadratic in r:

        both inwards    (w - 2r)(h - 2r) / wh           = t   4r^2 - 2(w + h)r + (1 - t)wh     = 0
        both outwards   wh / (w + 2r)(h + 2r)           = t   4tr^2 + 2t(w + h)r - (1 - t)wh   = 0
        the same way    i / (2wh - i), i = (w-r)(h-r)   = t   r^2 - (w + h)r + wh(1-t)/(1+t)   = 0

    With x = r / w and y = r / h, (1 - 2x)(1 - 2y) is below the other two IoUs for every r, so the
    first case binds: the answer is its smaller root, reading="correct", as in CornerNet-Lite's
    code. The first code of CornerNet, from which CenterNet took its own, divides by 2 instead of 2a
    and adds the square root where it must be subtracted; of its three numbers the second case's, 4t
    times that case's root, is always the smallest: reading="published". The published results of
    CornerNet (with t = 0.3) and CenterNet (0.7) were trained with it. A 20x20 box at 0.7 has 5.47
    published and 1.63 correct.
    """
    if not 0 < overlap < 1:
        raise ValueError(f"overlap is {overlap}; the IoU to be kept lies between 0 and 1")
    t, product, total = overlap, sizes.prod(-1), sizes.sum(-1)
    if reading == "correct":
        return (total - (total**2 - 4 * (1 - t) * product).clamp(min=0).sqrt()) / 4
    if reading == "published":
        return ((t * total) ** 2 + 4 * t * (1 - t) * product).sqrt() - t * total
    raise ValueError(f"radius reading is {reading!r}; choose one of {', '.join(READINGS)}")


def heatmaps(
    cells: Tensor, radii: Tensor, planes: Tensor, count: int, shape: tuple[int, int]
) -> Tensor:
    """(count, H, W) float32 in [0, 1]: a Gaussian per object, the maximum where they overlap.

    cells: (N, 2) int64 x and y of the peak, where the value is exactly 1. radii: (N,) in cells; a
    negative radius draws nothing. planes: (N,) int64 in [0, count), where to draw.

    sigma = (2r + 1) / 6 with r rounded down, and 0 beyond r, as in the code of CornerNet and
    CenterNet; CornerNet's text has sigma = r / 3, which is nothing at r = 0.
    """
    radii = radii.floor()[:, None]
    sigma = (2 * radii + 1) / 6
    profiles = []
    for axis, length in enumerate(reversed(shape)):  # x along W, then y along H
        distance = torch.arange(length, device=cells.device) - cells[:, axis, None]  # (N, length)
        profile = torch.exp(-(distance**2) / (2 * sigma**2))
        profiles.append(profile * (distance.abs() <= radii))
    return _maximum(profiles[1], profiles[0], planes, count)


def cells_in_boxes(boxes: Tensor, planes: Tensor, count: int, shape: tuple[int, int]) -> Tensor:
    """(count, H, W) bool: cells with any of their area inside a box of their plane.

    boxes: (N, 4) xyxy in cells; a box without an area touches nothing. planes: (N,) int64.
    """
    y = torch.arange(shape[0], device=boxes.device)
    x = torch.arange(shape[1], device=boxes.device)
    rows = (y + 1 > boxes[:, 1:2]) & (y < boxes[:, 3:4])
    columns = (x + 1 > boxes[:, 0:1]) & (x < boxes[:, 2:3])
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1, keepdim=True)
    return _maximum((rows & solid).float(), columns.float(), planes, count) > 0


def _maximum(rows: Tensor, columns: Tensor, planes: Tensor, count: int) -> Tensor:
    """(N, H), (N, W) -> (count, H, W): the outer products' maximum in every plane, 0 where none."""
    height, width = rows.shape[1], columns.shape[1]
    values = (rows[:, :, None] * columns[:, None, :]).flatten(1)  # (N, H * W)
    out = values.new_zeros(count, height * width)
    out.scatter_reduce_(0, planes[:, None].expand_as(values), values, "amax")
    return out.view(count, height, width)
