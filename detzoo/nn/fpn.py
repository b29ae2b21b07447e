"""The feature pyramid (Lin 2016, arXiv:1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.nn.backbones import Backbone
from detzoo.nn.blocks import Halving
from detzoo.nn.upsample import doublings
from detzoo.text import check_choice

NECKS = ("fpn", "one_map")
EXTRAS = ("pool", "conv_c5", "conv_p5")


class FPN(nn.Module):
    """P_l for min_level <= l <= max_level, each of `channels` channels at stride 2^l.

    Levels that the backbone has get a lateral 1x1, the coarser map upsampled and added, and a 3x3.
    Levels beyond it are made by `extra`: `pool` subsamples the last map (Faster R-CNN, 1612.03144
    section 4.1); `conv_c5` and `conv_p5` are stride-2 3x3 convolutions of C5 (RetinaNet, 1708.02002
    section 4) or of P5 (torchvision's), with a ReLU before every one but the first.
    upsample_by: one of nn.upsample's UPSAMPLES.

    forward: the backbone's maps -> [P_min, ..., P_max].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        *,
        channels: int = 256,
        min_level: int = 2,
        max_level: int = 6,
        extra: str = "pool",
        upsample_by: str = "nearest",  # section 3
    ) -> None:
        super().__init__()
        check_choice("the pyramid's extra", extra, EXTRAS)
        levels = [stride.bit_length() - 1 for stride in in_strides]
        self.used = [i for i, level in enumerate(levels) if min_level <= level <= max_level]
        if not self.used or levels[self.used[0]] != min_level:
            raise ValueError(f"the pyramid starts at stride {2**min_level}, backbone: {in_strides}")
        self.extra = extra
        self.channels = channels
        self.strides = tuple(2**level for level in range(min_level, max_level + 1))
        self.lateral = nn.ModuleList(nn.Conv2d(in_channels[i], channels, 1) for i in self.used)
        self.enlarge = doublings(upsample_by, channels, [in_strides[i] for i in self.used])
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in self.used)
        count = max_level - levels[self.used[-1]]
        self.extra_levels = count
        first = in_channels[self.used[-1]] if extra == "conv_c5" else channels
        self.further = nn.ModuleList(
            Halving(first if i == 0 else channels, channels)
            for i in range(count if extra != "pool" else 0)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = [maps[i] for i in self.used]
        merged = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + self.enlarge[i](merged[i + 1], merged[i])
        pyramid = [smooth(x) for smooth, x in zip(self.smooth, merged, strict=True)]
        if self.extra == "pool":
            for _ in range(self.extra_levels):
                pyramid.append(pyramid[-1][..., ::2, ::2])
        elif self.extra_levels:
            x = maps[-1] if self.extra == "conv_c5" else pyramid[-1]
            for i, convolution in enumerate(self.further):
                x = convolution(x if i == 0 else F.relu(x))
                pyramid.append(x)
        return pyramid


class OneMap(nn.Module):
    """The backbone's last map alone, as the papers before the pyramid had it."""

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int]) -> None:
        super().__init__()
        self.channels = in_channels[-1]
        self.strides = (in_strides[-1],)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [maps[-1]]


def make_neck(
    kind: str,
    backbone: Backbone,
    channels: int,
    levels: tuple[int, int],
    upsample_by: str | None = None,
) -> FPN | OneMap:
    """`fpn`: a pyramid of these levels and channels. `one_map`: the backbone's last map.

    upsample_by: of the pyramid; None for its paper's.
    """
    check_choice("detector.neck", kind, NECKS)
    if kind == "one_map":
        return OneMap(backbone.channels, backbone.strides)
    return FPN(
        backbone.channels,
        backbone.strides,
        channels=channels,
        min_level=levels[0],
        max_level=levels[1],
        upsample_by=upsample_by or "nearest",
    )
