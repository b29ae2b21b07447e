"""CornerNet's prediction module (1808.01244, figure 7). Shape letters: B images, C channels,
K classes, E embedding, H W the map.
"""

from __future__ import annotations

from torch import Tensor, nn

from detzoo.nn.blocks import convolution, normalised
from detzoo.nn.point_head import PointHead
from detzoo.ops.corner_pool import corner_pool


class Corner(nn.Module):
    """One kind of corner: corner pooling beside a skip, then the heads.

    forward: (B, C, H, W) -> [(B, K, H, W), (B, E, H, W), (B, 2, H, W) if `offsets`].
    """

    def __init__(
        self,
        channels: int,
        head_channels: int,
        num_classes: int,
        embedding: int,
        offsets: bool,
        pooling: bool,
        bottom_right: bool,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.bottom_right = bottom_right
        self.vertical = convolution(channels, channels // 2, 3)  # 128 of 256, section 3.4
        self.horizontal = convolution(channels, channels // 2, 3)
        self.pooled = normalised(channels // 2, channels, 3)
        self.skip = normalised(channels, channels, 1)
        self.merged = convolution(channels, channels, 3)
        self.heads = PointHead(channels, head_channels, num_classes, [embedding] + [2] * offsets)

    def forward(self, x: Tensor) -> list[Tensor]:
        vertical, horizontal = self.vertical(x), self.horizontal(x)
        if self.pooling:
            pooled = corner_pool(vertical, horizontal, bottom_right=self.bottom_right)
        else:
            pooled = vertical + horizontal
        return self.heads(self.merged((self.pooled(pooled) + self.skip(x)).relu_()))
