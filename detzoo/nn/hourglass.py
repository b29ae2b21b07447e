"""The Hourglass (Newell 2016, arXiv:1603.06937), as CornerNet has it (1808.01244, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detzoo.nn.blocks import Residual, convolution, normalised
from detzoo.nn.freezing import Freezable
from detzoo.nn.upsample import Upsample


class Hourglass(Freezable):
    """A backbone of one or two hourglasses; every one gives a map at stride 4.

    The defaults are Hourglass-104 of CornerNet and CenterNet. channels: at stride 4, and then after
    each halving; so the order is their number minus one. residuals: modules at a skip, before and
    after every scale; middle: at the coarsest one. stem: of the 7x7 convolution. Halving is by
    stride 2, not by max pooling; doubling is by upsample_by, one of nn.upsample's UPSAMPLES.
    frozen_stages: the last stage that is not trained, or None; stage 0 is the stem, and each
    hourglass is one, with its connection to the next.

    Between two hourglasses the input and the output of the first each pass a 1x1 convolution with
    batch norm, are added, and pass a ReLU and a residual module.

    Attributes as Backbone's: channels and strides per map, here one map a stack, all at stride 4;
    mean and std are those of the published weights. `stacks` maps mean as many heads: see
    point_head.EveryStack.

    Parameters of Hourglass-104: a residual module of c channels has 18c^2 + 4c, and one from a to c
    channels 10ac + 9c^2 + 6c. The stem has 938,112; each hourglass 92,134,400 and its last 3x3
    590,336; between the two 1,312,768; in total 187,700,352. With the heads that makes CenterNet's
    191,284,008 and CornerNet's 201,035,212, the number that its code prints.

    forward: (B, 3, H, W) -> stacks * [(B, channels[0], H / 4, W / 4)].
    """

    mean = (0.47026, 0.44719, 0.40790)
    std = (0.27810, 0.27408, 0.28864)

    def __init__(
        self,
        *,
        channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        stacks: int = 2,
        residuals: int = 2,
        middle: int = 4,
        stem: int = 128,
        upsample_by: str | None = None,  # 1603.06937, section 3.1: nearest
        frozen_stages: int | None = None,
    ) -> None:
        super().__init__()
        if stacks < 1 or len(channels) < 2:
            raise ValueError(
                f"an Hourglass of {stacks} stacks and channels {list(channels)}: it needs at least "
                "one stack, and channels at stride 4 and after each of one or more halvings"
            )
        width = channels[0]
        self.stacks = stacks
        self.channels = (width,) * stacks
        self.strides = (4,) * stacks
        self.stem = nn.Sequential(convolution(3, stem, 7, 2), Residual(stem, width, 2))
        self.glasses = nn.ModuleList(
            Scale(channels, residuals, middle, upsample_by or "nearest") for _ in range(stacks)
        )
        self.found = nn.ModuleList(convolution(width, width, 3) for _ in range(stacks))
        between = range(stacks - 1)
        self.merge_input = nn.ModuleList(normalised(width, width, 1) for _ in between)
        self.merge_found = nn.ModuleList(normalised(width, width, 1) for _ in between)
        self.merged = nn.ModuleList(Residual(width, width) for _ in between)
        self.freeze(frozen_stages)

    @property
    def stages(self) -> list[list[nn.Module]]:
        parts = (self.glasses, self.found, self.merge_input, self.merge_found, self.merged)
        glasses = [[part[i] for part in parts if i < len(part)] for i in range(self.stacks)]
        return [[self.stem], *glasses]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for i in range(self.stacks):
            maps.append(self.found[i](self.glasses[i](x)))
            if i + 1 < self.stacks:
                x = (self.merge_input[i](x) + self.merge_found[i](maps[-1])).relu_()
                x = self.merged[i](x)
        return maps


class Scale(nn.Module):
    """One scale of an hourglass, with all the coarser ones inside it; (B, C, H, W) to the same."""

    def __init__(
        self, channels: Sequence[int], residuals: int, middle: int, upsample_by: str
    ) -> None:
        super().__init__()
        here, below = channels[:2]
        again = range(residuals - 1)
        self.skip = nn.Sequential(*(Residual(here, here) for _ in range(residuals)))
        self.down = nn.Sequential(
            Residual(here, below, 2), *(Residual(below, below) for _ in again)
        )
        if len(channels) > 2:
            self.inner: nn.Module = Scale(channels[1:], residuals, middle, upsample_by)
        else:
            self.inner = nn.Sequential(*(Residual(below, below) for _ in range(middle)))
        self.up = nn.Sequential(*(Residual(below, below) for _ in again), Residual(below, here))
        self.enlarge = Upsample(upsample_by, here)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x)
        x = self.up(self.inner(self.down(x)))
        return skip + self.enlarge(x, skip)
