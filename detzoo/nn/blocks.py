"""Convolutions with batch norm, and the last layers of all detectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from detzoo.ops.fast import at_least_two_columns


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; (B, C, H, W) -> (B, out, ceil(H / stride), ...)."""
    return nn.Sequential(
        *normalised(in_channels, out_channels, kernel, stride), nn.ReLU(inplace=True)
    )


def normalised(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, with no bias between them."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class OutputConv(nn.Conv2d):
    """A detector's last convolution: its output is float32, whatever autocast's type is.

    Eight bits of mantissa are too few to compare outputs: embeddings near 100 would be in steps of
    0.5. A 1x1 is computed in float32. A larger one, which may be a third of a detector's work,
    stays in autocast's type, and only the bias is added in float32: in a head that starts at a
    small probability it is far larger than the rest.
    """

    @property
    def late_bias(self) -> bool:
        return self.kernel_size != (1, 1) and self.bias is not None

    def forward(self, x: Tensor) -> Tensor:
        if not _autocast(x):
            return super().forward(x.to(self.weight.dtype))
        if self.late_bias:
            return self._conv_forward(x, self.weight, None) + self.bias[:, None, None]
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class OutputLinear(nn.Linear):
    """A detector's last fully connected layer, computed in float32, whatever autocast's type is."""

    def forward(self, x: Tensor) -> Tensor:
        if not _autocast(x):
            return super().forward(x.to(self.weight.dtype))
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def _autocast(x: Tensor) -> bool:
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


class Halving(nn.Conv2d):
    """A 3x3 convolution of stride 2; (B, C, H, W) -> (B, out, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(at_least_two_columns(x))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip, which is a 1x1 where channels or stride change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(in_channels, out_channels, 3, stride)
        self.second = normalised(out_channels, out_channels, 3)
        same = stride == 1 and in_channels == out_channels
        self.skip = nn.Identity() if same else normalised(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x)) + self.skip(x)).relu_()


class Deformable(nn.Conv2d):
    """A 3x3 convolution whose nine taps move and are weighted (Zhu 2018, arXiv:1811.11168).

    Its own 3x3 convolution computes offsets and weights from the input, which start at 0 and 0.5.
    Always in float32; from torchvision.ops.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.where = nn.Conv2d(in_channels, 27, 3, padding=1)
        nn.init.zeros_(self.where.weight)
        nn.init.zeros_(self.where.bias)

    def forward(self, x: Tensor) -> Tensor:
        shift, weight = self.where(x).float().split([18, 9], 1)
        return deform_conv2d(
            x.float(), shift, self.weight, self.bias, padding=1, mask=weight.sigmoid()
        )


def deformable(in_channels: int, out_channels: int) -> nn.Sequential:
    """As `convolution` with a 3x3 kernel, but deformable."""
    return nn.Sequential(
        Deformable(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
