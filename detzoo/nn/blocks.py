"""Convolutions with batch norm, as the networks that look for points are made of them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; (B, C, H, W) -> (B, out, ceil(H / stride), ...)."""
    return nn.Sequential(*normalised(in_channels, out_channels, kernel, stride), nn.ReLU())


def normalised(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, with no bias between them."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip, which is a 1x1 where channels or stride change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(in_channels, out_channels, 3, stride)
        self.second = normalised(out_channels, out_channels, 3)
        same = stride == 1 and in_channels == out_channels
        self.skip = nn.Identity() if same else normalised(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.skip(x))
