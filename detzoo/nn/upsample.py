"""From a backbone's maps to maps at stride 4. Shape letters: B images, C channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.nn.blocks import convolution

STRIDE = 4


class Deconvolutions(nn.Module):
    """The last map, doubled until stride 4 (CenterNet, 1904.07850, section 4.1 and figure 6c).

    Every step is a 3x3 convolution and a 4x4 transposed convolution of stride 2, which starts as
    bilinear interpolation. The paper's 3x3 is deformable; this one is not, since a table of speeds
    on any device is better served without.

    channels: one number for every step, or one a step (the paper's 256, 128, 64 from stride 32).
    forward: [.., (B, C_last, H / s, W / s)] -> [(B, channels, H / 4, W / 4)].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        *,
        channels: int | Sequence[int] = (256, 128, 64),
    ) -> None:
        super().__init__()
        steps = (in_strides[-1] // STRIDE).bit_length() - 1
        if in_strides[-1] != STRIDE << steps:
            raise ValueError(f"stride {in_strides[-1]} is no power of two of at least {STRIDE}")
        widths = [channels] * steps if isinstance(channels, int) else list(channels)
        if len(widths) != steps:
            raise ValueError(
                f"channels is {channels}, but from stride {in_strides[-1]} to {STRIDE} there are "
                f"{steps} deconvolutions; give one number for all of them, or {steps}"
            )
        layers: list[nn.Module] = []
        previous = in_channels[-1]
        for width in widths:
            up = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False)
            _bilinear(up.weight)
            layers += [convolution(previous, width, 3), up, nn.BatchNorm2d(width), nn.ReLU()]
            previous = width
        self.layers = nn.Sequential(*layers)
        self.channels = previous

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self.layers(maps[-1])]


class TopDown(nn.Module):
    """All maps merged from the coarsest to stride 4: laterals added, a 3x3 after each addition.

    A light neck of few channels, for small networks and CPUs; the fine maps give it the edges that
    deconvolutions of the last map have to invent.

    forward: [(B, C_i, H / s_i, W / s_i), ..] -> [(B, channels, H / 4, W / 4)].
    """

    def __init__(
        self, in_channels: Sequence[int], in_strides: Sequence[int], *, channels: int = 64
    ) -> None:
        super().__init__()
        if in_strides[0] != STRIDE:
            raise ValueError(f"the finest map has stride {in_strides[0]}, not {STRIDE}")
        self.lateral = nn.ModuleList(convolution(width, channels, 1) for width in in_channels)
        self.smooth = nn.ModuleList(convolution(channels, channels, 3) for _ in in_channels[1:])
        self.channels = channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x = self.lateral[-1](maps[-1])
        for i in range(len(maps) - 2, -1, -1):
            x = F.interpolate(x, size=maps[i].shape[-2:]) + self.lateral[i](maps[i])
            x = self.smooth[i](x)
        return [x]


class AsTheyAre(nn.Module):
    """Every map of a network whose maps have stride 4 already: the Hourglass, one a stack."""

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = in_channels[-1]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(maps)


NECKS = {"deconv": Deconvolutions, "topdown": TopDown}


def to_stride_4(
    kind: str,
    in_channels: Sequence[int],
    in_strides: Sequence[int],
    channels: int | Sequence[int] | None = None,
) -> nn.Module:
    """The neck `kind` for these maps; none is needed, whatever `kind`, where all have stride 4.

    channels: the neck's own default where it is None. Its `channels` are those of every map that it
    gives. Raises ValueError for an unknown kind.
    """
    if kind not in NECKS:
        raise ValueError(f"upsample is {kind!r}; choose one of {', '.join(NECKS)}")
    if all(stride == STRIDE for stride in in_strides):
        return AsTheyAre(in_channels)
    options = {} if channels is None else {"channels": channels}
    return NECKS[kind](in_channels, in_strides, **options)


@torch.no_grad()
def _bilinear(weight: Tensor) -> None:
    """Make a (C, C, 4, 4) transposed kernel of stride 2 double every channel bilinearly."""
    line = weight.new_tensor([0.25, 0.75, 0.75, 0.25])
    weight.zero_()
    weight[range(len(weight)), range(len(weight))] = line[:, None] * line
