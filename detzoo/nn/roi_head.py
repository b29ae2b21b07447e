"""The second stage's modules: features of a region, and a head of two fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from detzoo.nn.blocks import OutputLinear
from detzoo.ops import boxes as box_ops
from detzoo.ops.regions import align
from detzoo.ops.rois import with_image
from detzoo.text import check_choice

REGION_FEATURES = ("align_max", "align", "pool")


class RegionFeatures(nn.Module):
    """RoI Align (1703.06870, section 3) or RoI Pool (1504.08083, section 2.1) over maps.

    kind: `align` takes the mean of a bin's samples, `align_max` their maximum (table 2c); `pool`
    rounds a box to whole cells, and has no gradient to it.

    With several maps a region is read from the one that fits its size (1612.03144, equation 1):
    level = floor(4 + log2(sqrt(area) / canonical_size)). aligned: RoI Align without the half-pixel
    offset error; torchvision's detectors were trained with aligned=False. On a CPU RoI Align is
    ours (ops.regions), several times faster there, and at inference reads the maps in their own
    type; on a GPU it is torchvision's, except for boxes that need a gradient, which torchvision's
    does not give. RoI Pool never gives one. All else is in float32.
    """

    def __init__(
        self,
        strides: Sequence[int],
        kind: str = "align",
        size: int = 7,
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: float = 224.0,
    ) -> None:
        super().__init__()
        check_choice("detector.region_features", kind, REGION_FEATURES)
        self.strides = tuple(strides)
        self.kind, self.size, self.sampling_ratio = kind, size, sampling_ratio
        self.aligned, self.canonical_size = aligned, canonical_size

    def forward(self, maps: Sequence[Tensor], rois: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w), per image (R_b, 4) xyxy in input pixels -> (R, C, size, size)."""
        regions = with_image([r.float() for r in rois])  # (R, 5)
        image, boxes = regions[:, 0], regions[:, 1:]
        if torch.is_grad_enabled() or self.kind == "pool" or boxes.is_cuda:
            maps = [x.float() for x in maps]
        level = self.levels(boxes) if len(maps) > 1 else torch.zeros_like(image).long()
        needs_gradient = boxes.requires_grad and torch.is_grad_enabled()
        size, samples = self.size, self.sampling_ratio
        if self.kind == "align_max":  # every sample is its own bin, then the largest is taken
            size, samples = size * samples, 1
        if self.kind == "pool" or (boxes.is_cuda and not needs_gradient):
            pooled = self._by_level(maps, regions, level, size, samples)
        else:
            pooled = align(
                maps,
                self.strides,
                boxes,
                image.long(),
                level,
                size=size,
                sampling_ratio=samples,
                aligned=self.aligned,
            )
        return F.max_pool2d(pooled, size // self.size) if size > self.size else pooled

    def _by_level(
        self,
        maps: Sequence[Tensor],
        regions: Tensor,
        level: Tensor,
        size: int,
        samples: int,
    ) -> Tensor:
        """By torchvision's kernels, map by map; RoI Align of size x size bins of `samples`^2."""
        order = level.argsort(stable=True)
        levels = torch.arange(len(maps), device=level.device)
        counts = (level[:, None] == levels).sum(0).tolist()  # the only synchronisation with the GPU
        pooled = [
            roi_pool(x, regions[inside], size, 1 / stride)
            if self.kind == "pool"
            else roi_align(x, regions[inside], size, 1 / stride, samples, self.aligned)
            for x, inside, stride in zip(maps, order.split(counts), self.strides, strict=True)
        ]
        return torch.cat(pooled)[order.argsort()]

    def levels(self, boxes: Tensor) -> Tensor:
        """(R, 4) -> (R,): which of the maps serves each region."""
        side = box_ops.area(boxes).sqrt()
        # 1e-6: a side of exactly the canonical size belongs to its own level in spite of rounding
        level = torch.floor(4 + torch.log2(side / self.canonical_size) + 1e-6)
        finest, coarsest = (s.bit_length() - 1 for s in (self.strides[0], self.strides[-1]))
        return level.clamp(finest, coarsest).long() - finest


class BoxHead(nn.Module):
    """Two fully connected layers, then K + 1 scores (background last) and a box per class.

    dropout: of both layers' outputs in training; VGG16's is 0.5. backbone: one that was pretrained
    with `fully_connected` layers behind it (VGG16Conv5) hands them over, where their sizes are
    those of fc6 and fc7.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        width: int,
        num_classes: int,
        dropout: float = 0.0,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels * size * size, width)
        self.fc7 = nn.Linear(width, width)
        self.dropout = dropout
        pretrained = vars(backbone or self).pop("fully_connected", None)
        if pretrained and pretrained["fc6.weight"].shape == self.fc6.weight.shape:
            self.load_state_dict(pretrained, strict=False)
        self.scores, self.deltas = _answers(width, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, size, size) -> scores (R, K + 1), deltas (R, K, 4)."""
        for layer in (self.fc6, self.fc7):
            x = layer(x.flatten(1)).relu_()
            if self.dropout:
                x = F.dropout(x, self.dropout, self.training)
        return self.scores(x), self.deltas(x).unflatten(1, (-1, 4))


class GlobalPoolingHead(nn.Module):
    """The mean over the map, then one linear layer each for K + 1 scores and a box per class.

    A class's score is then a sum over the map's cells, its class activation map (Zhou 2015,
    arXiv:1512.04150).
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.scores, self.deltas = _answers(channels, num_classes)

    @property
    def class_weights(self) -> Tensor:
        """(K + 1, C): each channel's weight in each class's score."""
        return self.scores.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, size, size) -> scores (R, K + 1), deltas (R, K, 4)."""
        x = x.mean((2, 3))
        return self.scores(x), self.deltas(x).unflatten(1, (-1, 4))


def _answers(width: int, num_classes: int) -> tuple[OutputLinear, OutputLinear]:
    """The last layers of scores and of deltas, initialised as in 1504.08083, section 2.3."""
    layers = OutputLinear(width, num_classes + 1), OutputLinear(width, num_classes * 4)
    for layer, std in zip(layers, (0.01, 0.001), strict=True):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return layers
