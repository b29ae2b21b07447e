"""Towers: the stacked convolutions of a head that all levels of a pyramid share."""

from __future__ import annotations

import math

from torch import nn

from detzoo.nn.norms import GroupNorm


def conv_tower(channels: int, convs: int, norm: bool) -> nn.Sequential:
    """`convs` times a 3x3 convolution, group norm if `norm`, and a ReLU; width and size stay."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1))
        if norm:
            layers.append(GroupNorm(math.gcd(32, channels), channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def initialise_head(
    towers: tuple[nn.Module, ...], outputs: tuple[nn.Conv2d, ...], logits: nn.Conv2d, prior: float
) -> None:
    """Initialise a head as RetinaNet's paper does (1708.02002, section 4.1), except the towers.

    The paper's 0.01 suits 256 channels; at 64 it is a sixth of what keeps a signal alive, and after
    four layers there is next to none to learn from. `logits` starts everywhere at probability
    `prior`, or the sum over all places would drown the first steps.
    """
    for tower in towers:
        for convolution in (m for m in tower if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)
    for layer in outputs:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(logits.bias, -math.log((1 - prior) / prior))
