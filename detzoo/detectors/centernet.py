"""CenterNet: Objects as Points (Zhou 2019, arXiv:1904.07850).

An object is the peak of its class's heatmap at its centre; size and sub-cell offset are read off
there. No anchors, no matching, no NMS.

Departures. The neck's 3x3 convolutions are not deformable (section 4.1, ResNet). The three heads'
3x3 convolutions are one of three times the width: the same function, computed faster. Size and
offset losses are equations 3 and 2, sums over both coordinates; the published code averages them,
so that its weights of 0.1 and 1 are half of these. A cell that a crowd box touches is a negative
for no class.

Shape letters: B images, K classes, H W the output map at stride 4, N objects of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn.backbones import Backbone
from detzoo.nn.upsample import STRIDE, Deconvolutions, TopDown
from detzoo.ops import boxes as box_ops
from detzoo.ops import gaussian
from detzoo.ops.peaks import top_peaks
from detzoo.ops.select import select
from detzoo.types import Detections, Images, Target


class Outputs(NamedTuple):
    heatmap: Tensor  # (B, K, H, W) logits
    size: Tensor  # (B, 2, H, W) width and height, in output pixels
    offset: Tensor  # (B, 2, H, W) x and y of the centre within its cell


class Assignment(NamedTuple):
    heatmap: Tensor  # (B, K, H, W) float32 in [0, 1], 1 at the objects' cells
    negative: Tensor  # (B, 1, H, W) bool: False where a crowd box lies
    image: Tensor  # (N,) int64
    cell: Tensor  # (N, 2) int64, x and y
    size: Tensor  # (N, 2) output pixels
    offset: Tensor  # (N, 2) in [0, 1]
    weight: Tensor  # (N,) float32: 1, and 0 for a crowd box


class Head(nn.Module):
    """3x3 convolution and ReLU, then a 1x1, for each of heatmap, size and offset (section 4)."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(in_channels, 3 * channels, 3, padding=1)
        self.heatmap = nn.Conv2d(channels, num_classes, 1)
        self.size = nn.Conv2d(channels, 2, 1)
        self.offset = nn.Conv2d(channels, 2, 1)
        for layer in (self.size, self.offset):
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.heatmap.bias, -2.19)  # sigmoid: 0.1

    def forward(self, x: Tensor) -> Outputs:
        heatmap, size, offset = F.relu(self.hidden(x)).chunk(3, 1)
        return Outputs(self.heatmap(heatmap), self.size(size), self.offset(offset))


class CenterNet(Detector):
    """upsample: `deconv`, the paper's, or `topdown`, lighter and with lateral additions;
    upsample_channels: of its maps (deconv: one number, or one for each deconvolution).
    head_channels: of every head's 3x3. overlap and radius: see ops.gaussian.radius.
    focal_alpha, focal_beta: equation 1. nms_threshold: none, as in the paper (section 5 tries it).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        upsample: str = "deconv",
        upsample_channels: int | Sequence[int] | None = None,
        head_channels: int = 256,
        overlap: float = 0.7,
        radius: str = "published",
        focal_alpha: float = 2.0,
        focal_beta: float = 4.0,
        size_weight: float = 0.1,
        offset_weight: float = 1.0,
        score_threshold: float = 0.001,
        max_detections: int = 100,
        nms_threshold: float | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            stride=backbone.strides[-1],
            mean=backbone.mean,
            std=backbone.std,
        )
        necks = {"deconv": Deconvolutions, "topdown": TopDown}
        if upsample not in necks:
            raise ValueError(f"upsample is {upsample!r}; choose one of {', '.join(necks)}")
        gaussian.radius(torch.ones(2), overlap, radius)  # raises now, not after the first batch
        options = {} if upsample_channels is None else {"channels": upsample_channels}
        self.backbone = backbone
        self.neck = necks[upsample](backbone.channels, backbone.strides, **options)
        self.head = Head(self.neck.channels, head_channels, num_classes)
        self.overlap = overlap
        self.radius = radius
        self.focal_alpha = focal_alpha
        self.focal_beta = focal_beta
        self.size_weight = size_weight
        self.offset_weight = offset_weight
        self.score_threshold = score_threshold
        self.max_detections = max_detections
        self.nms_threshold = nms_threshold

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        return self.head(self.neck(self.backbone(self.normalise(images))))

    @torch.no_grad()
    def assign(self, targets: Sequence[Target], shape: tuple[int, int]) -> Assignment:
        """Targets for a map of `shape` (H, W), drawn for all images at once on their device."""
        boxes = torch.cat([t.boxes for t in targets]).float() / STRIDE
        labels = torch.cat([t.labels for t in targets])
        crowd = torch.cat([t.crowd for t in targets])
        batch = len(targets)
        counts = torch.tensor([len(t.boxes) for t in targets], device=boxes.device)
        images = torch.arange(batch, device=boxes.device)
        image = images.repeat_interleave(counts, output_size=len(boxes))

        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = boxes[:, 2:] - boxes[:, :2]
        limit = torch.tensor([shape[1] - 1, shape[0] - 1], device=boxes.device)
        cell = centre.floor().long().clamp(min=0).minimum(limit)
        radii = gaussian.radius(size, self.overlap, self.radius).masked_fill(crowd, -1.0)
        planes = image * self.num_classes + labels
        heatmap = gaussian.heatmaps(cell, radii, planes, batch * self.num_classes, shape)
        crowded = gaussian.touched(boxes * crowd[:, None], image, batch, shape)
        return Assignment(
            heatmap.view(batch, self.num_classes, *shape),
            ~crowded[:, None],
            image,
            cell,
            size,
            centre - cell,
            (~crowd).float(),
        )

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        logits = outputs.heatmap.float()
        truth = self.assign(targets, logits.shape[-2:])
        objects = truth.weight.sum().clamp(min=1)

        # Equation 1: penalty-reduced focal loss of the cells, by logits so that no log meets a 0.
        p = logits.sigmoid()
        peak = (1 - p) ** self.focal_alpha * F.logsigmoid(logits)
        rest = p**self.focal_alpha * F.logsigmoid(-logits)
        rest = rest * (1 - truth.heatmap) ** self.focal_beta * truth.negative
        focal = -torch.where(truth.heatmap == 1, peak, rest).sum() / objects

        at = (truth.image, slice(None), truth.cell[:, 1], truth.cell[:, 0])
        size = (outputs.size[at].float() - truth.size).abs().sum(1) * truth.weight
        offset = (outputs.offset[at].float() - truth.offset).abs().sum(1) * truth.weight
        return {
            "heatmap": focal,
            "size": self.size_weight * size.sum() / objects,
            "offset": self.offset_weight * offset.sum() / objects,
        }

    @torch.no_grad()
    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        heat = outputs.heatmap.float()
        height, width = heat.shape[-2:]
        limits = torch.tensor(sizes, device=heat.device) / STRIDE  # (B, 2) height, width
        y = torch.arange(height, device=heat.device)
        x = torch.arange(width, device=heat.device)
        inside = (y < limits[:, :1])[:, :, None] & (x < limits[:, 1:])[:, None, :]
        heat = heat.masked_fill(~inside[:, None], -torch.inf)  # padding holds no object

        logits, labels, cells = top_peaks(heat, self.max_detections)  # (B, N) each
        index = cells[:, None].expand(-1, 2, -1)
        size = outputs.size.flatten(2).gather(2, index).float().clamp(min=0)  # (B, 2, N)
        offset = outputs.offset.flatten(2).gather(2, index).float()
        centre = torch.stack([cells % width, cells // width], 1) + offset
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1).mT * STRIDE  # (B, N, 4)
        return select(
            box_ops.clip(boxes, sizes),
            logits.sigmoid(),
            labels,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            max_detections=self.max_detections,
        )
