"""The anchors of a detector's maps, as a module that knows their sizes and strides."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detzoo.ops.anchors import pyramid_anchors


class Anchors(nn.Module):
    """Anchors of `sizes` (per level) and `ratios` (height over width) on maps at `strides`.

    as_torchvision: as torchvision's detectors place them, for its weights: corners rounded to whole
    pixels, and a level's stride taken as the input's size over the map's, floored, which differs
    from the true stride wherever the input is no multiple of it.

    forward: maps [(B, C, h, w)], input size (H, W) -> (N, 4) xyxy in input pixels.
    """

    def __init__(
        self,
        strides: Sequence[int],
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
        as_torchvision: bool = False,
    ) -> None:
        super().__init__()
        if len(sizes) != len(strides) or len({len(level) for level in sizes}) != 1:
            raise ValueError(
                f"anchor_sizes is {sizes}; it needs {len(strides)} lists of one length, one for "
                f"each of the strides {tuple(strides)}"
            )
        self.strides = tuple(strides)
        self.sizes = tuple(tuple(map(float, level)) for level in sizes)
        self.ratios = tuple(map(float, ratios))
        self.as_torchvision = as_torchvision
        self.a_cell = len(self.ratios) * len(self.sizes[0])  # A

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        shapes = tuple((x.shape[2], x.shape[3]) for x in maps)
        if self.as_torchvision:
            strides = tuple((size[0] // rows, size[1] // columns) for rows, columns in shapes)
        else:
            strides = tuple((stride, stride) for stride in self.strides)
        return pyramid_anchors(
            shapes, strides, self.sizes, self.ratios, self.as_torchvision, maps[0].device
        )
