"""Heads of point-based detectors. Shape letters: B images, C channels, S stacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detzoo.nn.blocks import OutputConv


class PointHead(nn.Module):
    """A heatmap, and values that are read off at its peaks: for each a 3x3, a ReLU and a 1x1.

    The 3x3 convolutions are one of several times the width: the same function, computed faster.
    classes: channels of the heatmap, which starts at probability `prior` everywhere. values:
    channels of each of the others, which start near 0. channels: of every 3x3.

    forward: (B, C, H, W) -> [(B, classes, H, W) logits, (B, values[0], H, W), ...].
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        classes: int,
        values: Sequence[int],
        prior: float = 0.1,
    ) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(in_channels, (1 + len(values)) * channels, 3, padding=1)
        self.heatmap = OutputConv(channels, classes, 1)
        self.values = nn.ModuleList(OutputConv(channels, width, 1) for width in values)
        for layer in self.values:
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.heatmap.bias, -math.log((1 - prior) / prior))

    def forward(self, x: Tensor) -> list[Tensor]:
        layers = [self.heatmap, *self.values]
        hidden = self.hidden(x).relu_().chunk(len(layers), 1)
        return [layer(part) for layer, part in zip(layers, hidden, strict=True)]


class EveryStack(nn.ModuleList):
    """A head for each of a network's maps, which are its stacks' (1603.06937, section 3.3).

    Intermediate supervision: in training every stack answers, and its answers are more images of
    the batch, so a loss that is normalised over the batch is the mean over the stacks.

    forward: S maps -> the heads' NamedTuple of (S * B, ...), stack by stack; unless `every`, that
    of the last alone.
    """

    def forward(self, maps: Sequence[Tensor], every: bool) -> Any:
        if not every or len(self) == 1:
            return self[-1](maps[-1])
        outputs = [head(x) for head, x in zip(self, maps, strict=True)]
        return type(outputs[0])(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))
