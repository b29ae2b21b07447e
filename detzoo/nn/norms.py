"""Group norm that also takes a map of one cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm, with the same weights and results, for maps of any size.

    torch refuses groups of a single value (one channel a group, a map of one cell, one image), and
    in eval mode too. By its definition the norm of one value is 0, so that the bias comes out.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
