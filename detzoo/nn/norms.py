"""Group norm that also takes a map of one cell, and SSD's norm of a cell's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm, with the same weights and results, for maps of any size.

    torch refuses groups of a single value (one channel a group, a map of one cell, one image), even
    in eval mode. By definition the norm of one value is 0, so that the output is the bias.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class L2Norm(nn.Module):
    """Every cell's features to length `scale`, learnt per channel (1512.02325,
    section 3.1; ParseNet)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.float()) * self.scale[:, None, None]
