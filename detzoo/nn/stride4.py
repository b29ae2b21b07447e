"""Necks that bring a backbone's maps to one map at stride 4, where heatmaps are.

Shape letters: B images, C channels, s a stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from detzoo.nn.blocks import convolution, deformable
from detzoo.nn.upsample import Upsample, doublings, fill_bilinear
from detzoo.text import check_choice

STRIDE = 4
CONVOLUTIONS = {"plain": partial(convolution, kernel=3), "deformable": deformable}


class Deconvolutions(nn.Module):
    """The last map, doubled until stride 4 (CenterNet, 1904.07850, section 4.1 and figure 6c).

    Every step is a 3x3 convolution and a 4x4 transposed convolution of stride 2 over all channels,
    which starts as bilinear interpolation. The paper's 3x3 is deformable; this one is plain by
    default, since a table of speeds on any device is better served without.

    channels: one number for every step, or one a step (the paper's 256, 128, 64 from stride 32).
    convolutions: the 3x3s are `plain`, `deformable` or `none` (1804.06208, figure 1a). upsample_by:
    one of UPSAMPLES; a kind that is no transposed convolution has an `Upsample` in its place, and a
    1x1 before it where the width changes.
    forward: [.., (B, C_last, H / s, W / s)] -> [(B, channels, H / 4, W / 4)].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        *,
        channels: int | Sequence[int] = (256, 128, 64),
        convolutions: str = "plain",
        upsample_by: str = "transposed_bilinear",
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
        finer = [in_strides[-1] >> (i + 1) for i in range(steps)]
        self.finer = [list(in_strides).index(s) if s in in_strides else None for s in finer]
        if upsample_by == "max_unpool" and None in self.finer:
            raise ValueError(
                f"upsample_by=max_unpool needs the maps of strides {finer}, the backbone's have "
                f"{list(in_strides)}"
            )
        layers: list[nn.Module] = []
        previous = in_channels[-1]
        for width in widths:
            if convolutions != "none":
                layers += CONVOLUTIONS[convolutions](previous, width)
                previous = width
            if upsample_by.startswith("transposed"):
                up: nn.Module = nn.ConvTranspose2d(previous, width, 4, 2, padding=1, bias=False)
                if previous == width and upsample_by == "transposed_bilinear":
                    fill_bilinear(up.weight)
            else:
                if previous != width:
                    layers.append(nn.Conv2d(previous, width, 1, bias=False))
                up = Upsample(upsample_by, width)
            layers += [up, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            previous = width
        self.layers = nn.Sequential(*layers)
        self.channels = previous

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x, finer = maps[-1], iter(self.finer)
        for layer in self.layers:
            if isinstance(layer, Upsample):
                index = next(finer)
                x = layer(x, None if index is None else maps[index])
            else:
                x = layer(x)
        return [x]


class Aggregation(nn.Module):
    """Maps merged one by one into the finest (iterative deep aggregation, 1707.06484, section 3.1).

    Each but the first is brought to `channels`, enlarged by its factor, added to the one before and
    smoothed. forward: n maps, finest first -> n maps, all of the first one's size.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        factors: Sequence[int],
        channels: int,
        convolutions: str,
        upsample_by: str,
    ) -> None:
        super().__init__()
        make = CONVOLUTIONS[convolutions]
        self.project = nn.ModuleList(make(width, channels) for width in in_channels[1:])
        self.enlarge = nn.ModuleList(Upsample(upsample_by, channels, f) for f in factors[1:])
        self.node = nn.ModuleList(make(channels, channels) for _ in in_channels[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        merged = [maps[0]]
        layers = zip(maps[1:], self.project, self.enlarge, self.node, strict=True)
        for x, project, enlarge, node in layers:
            merged.append(node(enlarge(project(x), merged[-1]) + merged[-1]))
        return merged


class DeepAggregation(nn.Module):
    """DLA's upsampling in CenterNet (1904.07850, figure 6d): aggregations from coarse to fine.

    The two coarsest maps are merged, then the three coarsest of what there is, until all are at
    stride 4; what each of these steps ended with is merged once more. Plain or `deformable`
    convolutions, the paper's. upsample_by: one of UPSAMPLES; the paper's is learned.

    forward: [(B, C_i, H / s_i, W / s_i), ..] at strides 4, 8, ... -> [(B, C_0, H / 4, W / 4)].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        *,
        convolutions: str = "plain",
        upsample_by: str = "transposed_bilinear",
    ) -> None:
        super().__init__()
        if list(in_strides) != [STRIDE << i for i in range(len(in_strides))]:
            raise ValueError(f"the strides are {list(in_strides)}, not {STRIDE} and its doubles")
        if convolutions == "none":
            raise ValueError("the upsampling of DLA is made of convolutions: plain or deformable")
        widths = list(in_channels)
        self.steps = nn.ModuleList()
        for start in range(len(widths) - 2, -1, -1):
            factors = [1] + [2] * (len(widths) - start - 1)
            step = Aggregation(widths[start:], factors, widths[start], convolutions, upsample_by)
            self.steps.append(step)
            widths[start + 1 :] = [widths[start]] * (len(widths) - start - 1)
        finest = list(in_channels[:-1])
        factors = [2**i for i in range(len(finest))]
        self.last = Aggregation(finest, factors, finest[0], convolutions, upsample_by)
        self.channels = finest[0]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps, ends = list(maps), []
        for i, step in enumerate(self.steps):
            start = len(maps) - 2 - i
            maps[start:] = step(maps[start:])
            ends.insert(0, maps[-1])
        return [self.last(ends)[-1]]


class TopDown(nn.Module):
    """All maps merged from the coarsest to `stride`: laterals added, a 3x3 after each addition.

    A light neck of few channels, for small networks and CPUs; the fine maps give it the edges that
    deconvolutions of the last map have to invent. upsample_by: one of UPSAMPLES.

    forward: [(B, C_i, H / s_i, W / s_i), ..] -> [(B, channels, H / stride, W / stride)].
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        *,
        channels: int = 64,
        stride: int = STRIDE,
        upsample_by: str = "nearest",
    ) -> None:
        super().__init__()
        if stride not in in_strides:
            raise ValueError(f"no map has stride {stride}, the backbone's have {in_strides}")
        self.finest = list(in_strides).index(stride)
        widths = in_channels[self.finest :]
        self.lateral = nn.ModuleList(convolution(width, channels, 1) for width in widths)
        self.enlarge = doublings(upsample_by, channels, in_strides[self.finest :])
        self.smooth = nn.ModuleList(convolution(channels, channels, 3) for _ in widths[1:])
        self.channels = channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = maps[self.finest :]
        x = self.lateral[-1](maps[-1])
        for i in range(len(maps) - 2, -1, -1):
            lateral = self.lateral[i](maps[i])
            x = self.smooth[i](self.enlarge[i](x, lateral) + lateral)
        return [x]


class Unchanged(nn.Module):
    """Every map unchanged, for a network whose maps have stride 4: the Hourglass, one per stack."""

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = in_channels[-1]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(maps)


NECKS = {"deconv": Deconvolutions, "topdown": TopDown, "dla": DeepAggregation}


def to_stride_4(
    kind: str,
    in_channels: Sequence[int],
    in_strides: Sequence[int],
    channels: int | Sequence[int] | None = None,
    convolutions: str = "plain",
    upsample_by: str | None = None,
) -> nn.Module:
    """The neck `kind` for these maps; if all have stride 4, none is needed, for any `kind`.

    channels: the neck's own default where it is None; `dla` has no choice. Its `channels` are those
    of every map that it gives. upsample_by: one of UPSAMPLES, by default the neck's own. Raises
    ValueError for an unknown kind and for what a kind cannot be.
    """
    check_choice("upsample", kind, NECKS)
    check_choice("upsample_convolutions", convolutions, (*CONVOLUTIONS, "none"))
    if all(stride == STRIDE for stride in in_strides):
        return Unchanged(in_channels)
    options: dict[str, object] = {} if kind == "topdown" else {"convolutions": convolutions}
    if kind == "topdown" and convolutions != "plain":
        raise ValueError(f"upsample=topdown has plain convolutions, not {convolutions}")
    if kind != "dla" and channels is not None:
        options["channels"] = channels
    if upsample_by is not None:
        options["upsample_by"] = upsample_by
    return NECKS[kind](in_channels, in_strides, **options)
