"""YOLOv3: An Incremental Improvement (Redmon 2018, arXiv:1804.02767).

YOLO with priors on three maps: each cell of each map predicts a box for every prior, an objectness
and independent class probabilities. An object trains one prior, the one whose shape fits it best,
at the cell of its centre.

Where we depart: x and y are compared after the logistic, since its inverse is infinite at a cell's
edge (section 2.1 compares before); losses are divided by the number of objects of the batch;
objectness is initialised to `prior`, or thousands of empty cells would dominate the first steps.
The overlap of the ignore rule is that of the prior with the object, as in the text (section 2.1);
Darknet's code takes that of the predicted box.

Shape letters: B images, K classes, A priors a cell, N priors in all, M objects of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import Backbone
from detzoo.nn.blocks import OutputConv
from detzoo.nn.darknet import conv_block
from detzoo.nn.upsample import Upsample
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import per_anchor, size_iou
from detzoo.ops.assign import inside_crowd, slot_owners
from detzoo.ops.constants import constant
from detzoo.ops.losses import normaliser
from detzoo.ops.select import top_candidates
from detzoo.types import Candidates, Images, Target, pad_targets

# Section 2.3: k-means over COCO's boxes, widths and heights in pixels of 416
COCO_PRIORS = (
    *((10, 13), (16, 30), (33, 23)),
    *((30, 61), (62, 45), (59, 119)),
    *((116, 90), (156, 198), (373, 326)),
)


class Grid(NamedTuple):
    corner: Tensor  # (N, 2) x and y of the cell's upper left corner, in input pixels
    stride: Tensor  # (N, 1) of the cell
    prior: Tensor  # (N, 2) width and height
    first: tuple[int, ...]  # index of every map's first
    maps: tuple[tuple[int, int, int], ...]  # rows, columns, stride


class Outputs(NamedTuple):
    deltas: Tensor  # (B, N, 4) t_x, t_y, t_w, t_h
    objectness: Tensor  # (B, N) logits
    logits: Tensor  # (B, N, K)
    grid: Grid


@lru_cache(maxsize=64)
def make_grid(
    maps: tuple[tuple[int, int, int], ...],
    priors: tuple[tuple[tuple[float, float], ...], ...],
    device: torch.device | str = "cpu",
) -> Grid:
    """maps: (rows, columns, stride); priors: per map. In the order rows, columns, priors."""
    corner, strides, sizes, first = [], [], [], [0]
    for (rows, columns, stride), shapes in zip(maps, priors, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        cells = torch.stack([x, y], -1).view(-1, 1, 2).float() * stride  # (rows * columns, 1, 2)
        corner.append(cells.expand(-1, len(shapes), -1).reshape(-1, 2))
        strides.append(torch.full((len(corner[-1]), 1), float(stride)))
        sizes.append(torch.tensor(shapes, dtype=torch.float32).repeat(rows * columns, 1))
        first.append(first[-1] + len(corner[-1]))
    tensors = (torch.cat(part).to(device, non_blocking=True) for part in (corner, strides, sizes))
    return Grid(*tensors, tuple(first[:-1]), maps)


class Neck(nn.Module):
    """Top-down over the maps: a block of 1x1 and 3x3, upsampled and concatenated with the next map.

    forward: the backbone's maps -> [(B, C_i, h_i, w_i)] from the finest used on (section 2.3).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: Sequence[int],
        convs: int,
        upsample_by: str,
    ) -> None:
        super().__init__()
        self.sets, self.narrow = nn.ModuleList(), nn.ModuleList()
        self.enlarge = nn.ModuleList()
        self.channels: list[int] = []
        previous, coarser = 0, in_strides[-1]
        maps = zip(channels[::-1], in_channels[::-1], in_strides[::-1], strict=True)
        for width, own, stride in maps:
            if previous:
                self.narrow.append(conv_block(previous, width, 1))
                self.enlarge.append(Upsample(upsample_by, width, coarser // stride))
            coarser = stride
            layers, inside = [], own + (width if previous else 0)
            for i in range(convs):
                outside, kernel = (2 * width, 3) if i % 2 else (width, 1)
                layers.append(conv_block(inside, outside, kernel))
                inside = outside
            self.sets.append(nn.Sequential(*layers))
            self.channels.insert(0, inside)
            previous = inside

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = [self.sets[0](maps[-1])]
        for i, x in enumerate(reversed(maps[:-1])):
            above = self.enlarge[i](self.narrow[i](out[0]), x)
            out.insert(0, self.sets[i + 1](torch.cat([above, x], 1)))
        return out


class Head(nn.Module):
    """On every map a 3x3 of twice its width and a 1x1: t, objectness, classes for each prior."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int],
        priors: int,
        num_classes: int,
        prior: float,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.ModuleList(
            nn.Sequential(conv_block(c, 2 * w, 3), OutputConv(2 * w, priors * (5 + num_classes), 1))
            for c, w in zip(in_channels, channels, strict=True)
        )
        for layer in self.layers:
            nn.init.normal_(layer[1].weight, std=0.01)
            bias = torch.zeros(priors, 5 + num_classes)
            bias[:, 4] = -math.log((1 - prior) / prior)
            layer[1].bias = nn.Parameter(bias.flatten())

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        maps = [layer(x) for layer, x in zip(self.layers, maps, strict=True)]
        x = per_anchor(maps, 5 + self.num_classes)  # (B, N, 5 + K)
        # a split, for OpenVINO (2026.4) loses a slice that is gathered from
        deltas, objectness, logits = x.split((4, 1, self.num_classes), 2)
        return deltas, objectness.squeeze(2), logits


class YOLOv3(Detector):
    """See the module's text.

    anchors: widths and heights of all priors in input pixels, smallest first, shared out evenly
    over the maps from the finest on; None: the paper's nine, which are for 416 pixels. `detzoo
    check` prints those of a data set. finest_level: of the maps used, strides 2^l; the
    first `maps` of them answer, and what coarser ones the backbone has only feed these. channels:
    of every map's set of convs, one number or one a map, those that only feed included.
    upsample_by: how maps are enlarged (nn.upsample.UPSAMPLES), by default nearest (the published
    configuration).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        anchors: Sequence[Sequence[float]] | None = None,
        finest_level: int = 3,  # section 2.3
        maps: int = 3,  # section 2.3
        channels: int | Sequence[int] = (128, 256, 512),  # the published configuration
        convs: int = 5,  # the published configuration
        upsample_by: str | None = None,
        ignore: float = 0.5,  # section 2.1
        prior: float = 0.01,
        score_threshold: float = 0.001,
        top_k: int = 1000,  # candidates an image that reach NMS
        nms_threshold: float = 0.45,  # the published code
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=backbone.strides[-1], backbone=backbone)
        finest = 2**finest_level
        if finest not in backbone.strides:
            raise ValueError(f"no map has stride {finest}, the backbone's have {backbone.strides}")
        self.first = list(backbone.strides).index(finest)
        used = backbone.strides[self.first :]
        if not 1 <= maps <= len(used):
            raise ValueError(f"detector.maps is {maps}, but there are maps of strides {used}")
        self.strides = used[:maps]
        anchors = COCO_PRIORS if anchors is None else anchors
        if not anchors or len(anchors) % maps or any(len(a) != 2 or min(a) <= 0 for a in anchors):
            raise ValueError(
                f"detector.anchors is {anchors}; give [width, height] pairs above 0, as many for "
                f"each of the {maps} maps"
            )
        widths = [channels] * len(used) if isinstance(channels, int) else list(channels)
        if len(widths) != len(used):
            raise ValueError(f"channels is {channels}; give one number, or one for each of {used}")
        each = len(anchors) // maps
        pairs = [(float(w), float(h)) for w, h in anchors]
        self.priors = tuple(tuple(pairs[i * each : (i + 1) * each]) for i in range(maps))
        self.neck = Neck(
            backbone.channels[self.first :], used, widths, convs, upsample_by or "nearest"
        )
        self.head = Head(self.neck.channels[:maps], widths[:maps], each, num_classes, prior)
        self.ignore = ignore
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        maps = self.neck(self.backbone(self.normalise(images))[self.first :])[: len(self.strides)]
        shapes = tuple((x.shape[2], x.shape[3], s) for x, s in zip(maps, self.strides, strict=True))
        return Outputs(*self.head(maps), make_grid(shapes, self.priors, images.pixels.device))

    @torch.no_grad()
    def assign(self, grid: Grid, targets: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N) object of every prior, an index into M, or -1; (B, N, 4) its box;
        (B, N) bool: neither a positive nor ignored.

        If two objects fit one prior of one cell, it is matched to the last.
        """
        truth = pad_targets(targets)
        objects = box_ops.to_cxcywh(truth.boxes)  # (B, M, 4)
        each = len(self.priors[0])  # A
        shapes = torch.cat([grid.prior[first : first + each] for first in grid.first])
        fit = size_iou(objects[..., 2:], shapes).argmax(-1)  # (B, M) over all priors of all maps
        level = fit // each
        table = constant(grid.maps, fit.device, torch.int64)[level]  # (B, M, 3)
        rows, columns, stride = table.unbind(-1)
        x, y = (objects[..., :2] / stride[..., None]).floor().long().clamp(min=0).unbind(-1)
        cell = y.minimum(rows - 1) * columns + x.minimum(columns - 1)
        first = constant(grid.first, fit.device, torch.int64)[level]
        owner = slot_owners(
            first + cell * each + fit % each, truth.single, len(grid.prior)
        )  # (B, N)

        centre, half = grid.corner + grid.stride / 2, grid.prior / 2
        priors = torch.cat([centre - half, centre + half], 1)
        overlap = box_ops.iou(priors[None], truth.boxes) * truth.single[:, None]  # (B, N, M)
        ignored = (overlap.amax(2) > self.ignore) | inside_crowd(priors, truth)
        boxes = truth.boxes.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 4))
        return owner, boxes, (owner < 0) & ~ignored

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        truth = pad_targets(targets)
        owner, boxes, negative = self.assign(outputs.grid, truth)
        image, index = (owner >= 0).nonzero(as_tuple=True)  # the positives
        count = normaliser((owner >= 0).sum())
        objectness = outputs.objectness.float()
        wanted = (owner >= 0).float()
        alarm = F.binary_cross_entropy_with_logits(objectness, wanted, reduction="none")
        labels = truth.labels[image, owner[image, index]]
        classes = F.one_hot(labels, self.num_classes).float()
        entropy = F.binary_cross_entropy_with_logits(
            outputs.logits[image, index].float(), classes, reduction="sum"
        )
        return {
            "box": self.box_loss(outputs, image, index, boxes[image, index]) / count,
            "objectness": (alarm * (negative | (owner >= 0))).sum() / count,
            "class": entropy / count,
        }

    def box_loss(self, outputs: Outputs, image: Tensor, index: Tensor, boxes: Tensor) -> Tensor:
        """Half the squared error of (sigma(t_x), sigma(t_y), t_w, t_h), summed (section 2.1)."""
        grid = outputs.grid
        truth = box_ops.to_cxcywh(boxes)
        place = (truth[:, :2] - grid.corner[index]) / grid.stride[index]
        size = torch.log(truth[:, 2:] / grid.prior[index])
        t = outputs.deltas[image, index].float()
        error = torch.cat([t[:, :2].sigmoid() - place, t[:, 2:] - size], 1)
        return error.square().sum() / 2

    def boxes(self, outputs: Outputs, index: Tensor) -> Tensor:
        """(B, n) -> (B, n, 4) xyxy of these priors (section 2.1, figure 2)."""
        grid = outputs.grid
        t = outputs.deltas.gather(1, index[..., None].expand(-1, -1, 4)).float()
        centre = grid.corner[index] + t[..., :2].sigmoid() * grid.stride[index]
        half = grid.prior[index] * t[..., 2:].clamp(max=box_ops.LARGEST_DELTA).exp() / 2
        return torch.cat([centre - half, centre + half], -1)

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        scores = outputs.logits.float().sigmoid() * outputs.objectness.float().sigmoid()[..., None]
        scores, index, labels = top_candidates(scores, self.top_k)
        return Candidates(self.boxes(outputs, index), scores, labels)
