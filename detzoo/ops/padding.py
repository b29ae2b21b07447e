"""Where an image ends and its padding begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detzoo.ops.constants import constant


def inside(
    sizes: Sequence[tuple[int, int]], shape: tuple[int, int], device: torch.device
) -> Tensor | None:
    """(B, H, W) bool, True in the image; None where all fill the shape (H, W).

    sizes: (height, width) of every image, which is at the upper left; all in pixels or all in
    cells.
    """
    if all(size == tuple(shape) for size in sizes):
        return None
    ends = constant(sizes, device)
    rows, columns = (torch.arange(n, device=device) for n in shape)
    return (rows < ends[:, :1])[:, :, None] & (columns < ends[:, 1:])[:, None]
