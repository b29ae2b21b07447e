"""Enlarging maps, and necks that bring a backbone's maps to stride 4, if not said otherwise.

Shape letters: B images, C channels, f a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.nn.blocks import convolution, deformable

STRIDE = 4
UPSAMPLES = (
    *("nearest", "bilinear", "bicubic", "bed_of_nails", "max_unpool"),
    *("transposed", "transposed_bilinear", "pixel_shuffle"),
)
CONVOLUTIONS = {"plain": partial(convolution, kernel=3), "deformable": deformable}


class Upsample(nn.Module):
    """A map enlarged by a factor, channel by channel, so that all kinds cost about the same.

    nearest, bilinear, bicubic: interpolation. bed_of_nails: every value in the upper left of its
    f x f cells, zeros around it. max_unpool: where the maximum of the finer map lies among them
    (its own channel's, or all channels' where their number differs), as the indices of a max pool
    of that map say. transposed: a transposed convolution of stride f and 2f x 2f, learned, which
    starts at random; transposed_bilinear: which starts as bilinear interpolation. pixel_shuffle: f
    * f values a cell by a 3x3 (1609.05158), which starts as nearest.

    forward: (B, C, h, w), and the finer map (B, any, H, W) -> (B, C, H, W), H at most f * h;
    without a finer map (B, C, f * h, f * w). Raises ValueError for an unknown kind.
    """

    def __init__(self, kind: str, channels: int, factor: int = 2) -> None:
        super().__init__()
        if kind not in UPSAMPLES:
            choices = ", ".join(UPSAMPLES)
            raise ValueError(f"upsample_by is {kind!r}; choose one of {choices}")
        self.kind, self.factor = kind, factor
        if kind.startswith("transposed"):
            size = 2 * factor - factor % 2
            self.weight = nn.Parameter(torch.empty(channels, 1, size, size))
            nn.init.normal_(self.weight, std=0.5)  # four of them meet in a cell: variance 1
            if kind == "transposed_bilinear":
                _bilinear(self.weight)
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
                    _bilinear(up.weight)
            else:
                if previous != width:
                    layers.append(nn.Conv2d(previous, width, 1, bias=False))
                up = Upsample(upsample_by, width)
            layers += [up, nn.BatchNorm2d(width), nn.ReLU()]
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


def doublings(kind: str, channels: int, strides: Sequence[int]) -> nn.ModuleList:
    """For maps at `strides`, finest first: what enlarges each but the first to the one before."""
    factors = [coarse // fine for fine, coarse in pairwise(strides)]
    return nn.ModuleList(Upsample(kind, channels, factor) for factor in factors)


class AsTheyAre(nn.Module):
    """Every map of a network whose maps have stride 4 already: the Hourglass, one a stack."""

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
    """The neck `kind` for these maps; none is needed, whatever `kind`, where all have stride 4.

    channels: the neck's own default where it is None; `dla` has no choice. Its `channels` are those
    of every map that it gives. upsample_by: one of UPSAMPLES, by default the neck's own. Raises
    ValueError for an unknown kind and for what a kind cannot be.
    """
    if kind not in NECKS:
        raise ValueError(f"upsample is {kind!r}; choose one of {', '.join(NECKS)}")
    if convolutions not in (*CONVOLUTIONS, "none"):
        known = ", ".join((*CONVOLUTIONS, "none"))
        raise ValueError(f"upsample_convolutions is {convolutions!r}; choose one of {known}")
    if all(stride == STRIDE for stride in in_strides):
        return AsTheyAre(in_channels)
    options: dict[str, object] = {} if kind == "topdown" else {"convolutions": convolutions}
    if kind == "topdown" and convolutions != "plain":
        raise ValueError(f"upsample=topdown has plain convolutions, not {convolutions}")
    if kind != "dla" and channels is not None:
        options["channels"] = channels
    if upsample_by is not None:
        options["upsample_by"] = upsample_by
    return NECKS[kind](in_channels, in_strides, **options)


@torch.no_grad()
def _bilinear(weight: Tensor) -> None:
    """Make a (C, C or 1, 2f, 2f) transposed kernel of stride f enlarge every channel bilinearly.

    Of an odd f the kernel has 2f - 1 (FCN, 1411.4038, section 3.3).
    """
    size = weight.shape[-1]
    twice = size + size % 2  # f = 2: 1/4, 3/4, 3/4, 1/4
    line = 1 - (torch.arange(size) * 2 + 1 - size).abs() / twice
    weight.zero_()
    across = range(len(weight)) if weight.shape[1] > 1 else 0
    weight[range(len(weight)), across] = line[:, None] * line
