"""Enlarging maps.

Shape letters: B images, C channels, f a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.text import check_choice

UPSAMPLES = (
    *("nearest", "bilinear", "bicubic", "bed_of_nails", "max_unpool"),
    *("transposed", "transposed_bilinear", "pixel_shuffle"),
)


class Upsample(nn.Module):
    """A map enlarged by a factor, channel by channel, so that all kinds cost about the same.

    nearest, bilinear, bicubic: interpolation. bed_of_nails: every value in the upper left of its f
    x f cells, zeros around it. max_unpool: where the maximum of the finer map lies among them (its
    own channel's, or all channels' where their number differs), as the indices of a max pool of
    that map say. transposed: a transposed convolution of stride f and 2f x 2f, learned, randomly
    initialised; transposed_bilinear: initialised as bilinear interpolation. pixel_shuffle: f * f
    values a cell by a 3x3 (1609.05158), initialised as nearest.

    forward: (B, C, h, w), and the finer map (B, any, H, W) -> (B, C, H, W), H at most f * h;
    without a finer map (B, C, f * h, f * w). Raises ValueError for an unknown kind.
    """

    def __init__(self, kind: str, channels: int, factor: int = 2) -> None:
        super().__init__()
        check_choice("upsample_by", kind, UPSAMPLES)
        self.kind, self.factor = kind, factor
        if kind.startswith("transposed"):
            size = 2 * factor - factor % 2
            self.weight = nn.Parameter(torch.empty(channels, 1, size, size))
            nn.init.normal_(self.weight, std=0.5)  # four of them meet in a cell: variance 1
            if kind == "transposed_bilinear":
                fill_bilinear(self.weight)
        elif kind == "pixel_shuffle":
            self.weight = nn.Parameter(torch.zeros(channels * factor**2, 1, 3, 3))
            with torch.no_grad():
                self.weight[..., 1, 1] = 1

    def extra_repr(self) -> str:
        return f"{self.kind}, factor={self.factor}"

    def forward(self, x: Tensor, finer: Tensor | None = None) -> Tensor:
        f, channels = self.factor, x.shape[1]
        size = (x.shape[2] * f, x.shape[3] * f) if finer is None else tuple(finer.shape[-2:])
        if self.kind == "nearest":
            return F.interpolate(x, size=size)
        if self.kind in ("bilinear", "bicubic"):
            return F.interpolate(x, size=size, mode=self.kind)
        if self.kind == "max_unpool":
            return _max_unpool(x, finer, f)
        if self.kind == "bed_of_nails":
            nails = F.pad(x[:, :, :, None, :, None], (0, f - 1, 0, 0, 0, f - 1))
            large = nails.flatten(2, 3).flatten(3)
        elif self.kind == "pixel_shuffle":
            large = F.conv2d(x, self.weight, padding=1, groups=channels)
            large = F.pixel_shuffle(large, f)
        else:
            large = F.conv_transpose2d(x, self.weight, stride=f, padding=f // 2, groups=channels)
        return large[..., : size[0], : size[1]]


def _max_unpool(x: Tensor, finer: Tensor | None, factor: int) -> Tensor:
    """See Upsample. Written as a scatter, which is differentiable in every number format."""
    if finer is None:
        raise ValueError("upsample_by=max_unpool needs a finer map, whose maxima say where to put")
    if finer.shape[1] != x.shape[1]:
        finer = finer.amax(1, keepdim=True)
    _, index = F.max_pool2d(finer.detach(), factor, ceil_mode=True, return_indices=True)
    height, width = finer.shape[-2:]
    index = index.expand_as(x).flatten(2)
    flat = x.new_zeros(*x.shape[:2], height * width).scatter(2, index, x.flatten(2))
    return flat.unflatten(2, (height, width))


def doublings(kind: str, channels: int, strides: Sequence[int]) -> nn.ModuleList:
    """For maps at `strides`, finest first: modules that enlarge each but the first to the one
    before."""
    factors = [coarse // fine for fine, coarse in pairwise(strides)]
    return nn.ModuleList(Upsample(kind, channels, factor) for factor in factors)


@torch.no_grad()
def fill_bilinear(weight: Tensor) -> None:
    """Make a (C, C or 1, 2f, 2f) transposed kernel of stride f enlarge every channel bilinearly.

    For an odd f the kernel has 2f - 1 (FCN, 1411.4038, section 3.3).
    """
    size = weight.shape[-1]
    twice = size + size % 2  # f = 2: 1/4, 3/4, 3/4, 1/4
    line = 1 - (torch.arange(size) * 2 + 1 - size).abs() / twice
    weight.zero_()
    across = range(len(weight)) if weight.shape[1] > 1 else 0
    weight[range(len(weight)), across] = line[:, None] * line
