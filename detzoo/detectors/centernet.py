"""CenterNet: Objects as Points (Zhou 2019, arXiv:1904.07850).

An object is the peak of its class's heatmap at its centre; size and sub-cell offset are predicted
there. No anchors, no matching, no NMS.

Departures. The neck's 3x3 convolutions are deformable only by a setting (section 4.1). Size and
offset losses are equations 3 and 2, sums over both coordinates; the published code averages them,
so that its weights of 0.1 and 1 are half of these. A cell that a crowd box touches is a negative
for no class. Shape letters: B images, K classes, H W the output map at stride 4, N objects of the
whole batch, P peaks of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.nn.backbones import Backbone
from detzoo.nn.hourglass import Hourglass
from detzoo.nn.point_head import EveryStack, PointHead
from detzoo.nn.stride4 import STRIDE, to_stride_4
from detzoo.ops import gaussian
from detzoo.ops.assign import flat_boxes
from detzoo.ops.constants import constant
from detzoo.ops.losses import normaliser, penalty_reduced_focal, smooth_l1
from detzoo.ops.peaks import at_cells, top_peaks, without_padding
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, Target, pad_targets

BOX_LOSSES = {"l1": 0.0, "smooth_l1": 1.0}  # and their smooth L1's beta


class Outputs(NamedTuple):
    heatmap: Tensor  # (B, K, H, W) logits
    size: Tensor  # (B, 2, H, W), or 2 per class: width and height, in output pixels
    offset: Tensor  # (B, 2, H, W) x and y of the centre within its cell


class Assignment(NamedTuple):
    heatmap: Tensor  # (B, K, H, W) float32 in [0, 1], 1 at the objects' cells
    negative: Tensor  # (B, 1, H, W) bool: False where a crowd box is
    image: Tensor  # (N,) int64
    label: Tensor  # (N,) int64
    cell: Tensor  # (N, 2) int64, x and y
    size: Tensor  # (N, 2) output pixels
    offset: Tensor  # (N, 2) in [0, 1]
    weight: Tensor  # (N,) float32: 1, and 0 for a crowd box


class Head(PointHead):
    """Heatmap, size and offset (section 4); without offsets a centre is the middle of its cell."""

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, sizes: int, offsets: bool
    ) -> None:
        super().__init__(in_channels, channels, num_classes, [2 * sizes] + [2] * offsets)

    def forward(self, x: Tensor) -> Outputs:
        heatmap, size, *offset = super().forward(x)
        return Outputs(
            heatmap, size, *(offset or [torch.full_like(heatmap[:, :1], 0.5).expand(-1, 2, -1, -1)])
        )


class CenterNet(Detector):
    """upsample: `deconv`, the paper's for ResNets, `dla`, the paper's for DLA-34, or `topdown`,
    lighter and with lateral additions, to bring a backbone's maps to stride 4; the Hourglass needs
    none. upsample_channels: of its maps (deconv: one number, or one for each deconvolution; dla has
    the backbone's). upsample_convolutions: `plain`, `deformable` (section 4.1) or, of deconv,
    `none`. upsample_by: how maps are enlarged (nn.upsample.UPSAMPLES), by default the neck's own:
    learned from a bilinear start (section 4.1), and nearest in topdown. head_channels: of every
    head's 3x3. overlap and radius: see ops.gaussian.radius. focal_alpha, focal_beta: equation 1.
    box_loss: of sizes and offsets, `l1` or `smooth_l1` (section 5). class_agnostic_size: one size a
    cell (section 3), or one per class. offsets: without them a centre is known to its cell.
    flip_test: heatmaps and sizes are the mean with those of the mirrored image (section 5).
    nms_threshold: none, as in the paper (section 5 tries it).
    """

    def __init__(
        self,
        *,
        backbone: Backbone | Hourglass,
        num_classes: int,
        upsample: str = "deconv",
        upsample_channels: int | Sequence[int] | None = None,
        upsample_convolutions: str = "plain",
        upsample_by: str | None = None,
        head_channels: int = 256,
        overlap: float = 0.7,
        radius: str = "published",
        focal_alpha: float = 2.0,
        focal_beta: float = 4.0,
        box_loss: str = "l1",
        size_weight: float = 0.1,
        offset_weight: float = 1.0,
        class_agnostic_size: bool = True,
        offsets: bool = True,
        score_threshold: float = 0.001,
        max_detections: int = 100,
        flip_test: bool = False,
        nms_threshold: float | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=backbone.strides[-1], backbone=backbone)
        check_choice("detector.box_loss", box_loss, BOX_LOSSES)
        gaussian.radius(torch.ones(2), overlap, radius)  # raises now, not after the first batch
        self.neck = to_stride_4(
            upsample,
            backbone.channels,
            backbone.strides,
            upsample_channels,
            upsample_convolutions,
            upsample_by,
        )
        sizes = 1 if class_agnostic_size else num_classes
        stacks = getattr(backbone, "stacks", 1)
        self.head = EveryStack(
            Head(self.neck.channels, head_channels, num_classes, sizes, offsets)
            for _ in range(stacks)
        )
        self.class_agnostic_size = class_agnostic_size
        self.overlap = overlap
        self.radius = radius
        self.focal_alpha = focal_alpha
        self.focal_beta = focal_beta
        self.box_beta = BOX_LOSSES[box_loss]
        self.size_weight = size_weight
        self.offset_weight = offset_weight
        self.offsets = offsets
        self.score_threshold = score_threshold
        self.max_detections = max_detections
        self.flip_test = flip_test
        self.nms_threshold = nms_threshold

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        x = self.normalise(images)
        if self.flip_test and targets is None:
            x = torch.cat([x, x.flip(-1)])
            return _merged(self.head(self.neck(self.backbone(x)), every=False))
        return self.head(self.neck(self.backbone(x)), every=targets is not None)

    @torch.no_grad()
    def assign(self, targets: Sequence[Target], shape: tuple[int, int]) -> Assignment:
        """Targets for a map of `shape` (H, W), drawn for all images at once on their device."""
        boxes, labels, crowd, image = flat_boxes(pad_targets(targets))
        boxes, batch = boxes / STRIDE, len(targets)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        size = boxes[:, 2:] - boxes[:, :2]
        limit = constant((shape[1] - 1, shape[0] - 1), boxes.device, torch.int64)
        cell = centre.floor().long().clamp(min=0).minimum(limit)
        radii = gaussian.radius(size, self.overlap, self.radius).masked_fill(crowd, -1.0)
        planes = image * self.num_classes + labels
        heatmap = gaussian.heatmaps(cell, radii, planes, batch * self.num_classes, shape)
        crowded = gaussian.cells_in_boxes(boxes * crowd[:, None], image, batch, shape)
        return Assignment(
            heatmap.view(batch, self.num_classes, *shape),
            ~crowded[:, None],
            image,
            labels,
            cell,
            size,
            centre - cell,
            (~crowd).float(),
        )

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        logits = outputs.heatmap
        stacks = len(logits) // len(targets)  # see EveryStack
        truth = self.assign(pad_targets(targets).repeat(stacks), logits.shape[-2:])
        objects = normaliser(truth.weight.sum())
        focal = penalty_reduced_focal(
            logits, truth.heatmap, alpha=self.focal_alpha, beta=self.focal_beta
        )
        counted = truth.negative | (truth.heatmap == 1)
        at = (truth.image, slice(None), slice(None), truth.cell[:, 1], truth.cell[:, 0])
        sizes = outputs.size.unflatten(1, (-1, 2))[at]  # (N, 1 or K, 2)
        which = truth.label if sizes.shape[1] > 1 else torch.zeros_like(truth.label)
        sizes = sizes[torch.arange(len(sizes), device=sizes.device), which]
        size = smooth_l1(sizes, truth.size, self.box_beta).sum(1) * truth.weight
        losses = {
            "heatmap": (focal * counted).sum() / objects,
            "size": self.size_weight * size.sum() / objects,
        }
        if self.offsets:
            offset = outputs.offset[:, None][at][:, 0]  # (N, 2)
            offset = smooth_l1(offset, truth.offset, self.box_beta).sum(1) * truth.weight
            losses["offset"] = self.offset_weight * offset.sum() / objects
        return losses

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        heat, size, offset = (x[-len(sizes) :] for x in outputs)  # of the last stack
        heat = without_padding(heat.float(), sizes, STRIDE)  # padding holds no object
        logits, labels, cells = top_peaks(heat, self.max_detections)  # (B, P) each
        size = at_cells(size, cells).unflatten(1, (-1, 2)).clamp(min=0)  # (B, 1 or K, 2, P)
        which = labels if size.shape[1] > 1 else torch.zeros_like(labels)
        size = size.gather(1, which[:, None, None].expand(-1, 1, 2, -1))[:, 0]  # (B, 2, P)
        width = heat.shape[-1]
        centre = torch.stack([cells % width, cells // width], 1) + at_cells(offset, cells)
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1).mT * STRIDE  # (B, P, 4)
        return Candidates(boxes, logits.sigmoid(), labels)

    def heatmaps(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"centres": outputs.heatmap.float().sigmoid().amax(1)}


def _merged(outputs: Outputs) -> Outputs:
    """The outputs of images merged with those of their mirror images, (2B, ...) -> (B, ...)."""
    heat, size, offset = (x.float().chunk(2) for x in outputs)
    probability = (heat[0].sigmoid() + heat[1].sigmoid().flip(-1)) / 2
    return Outputs(probability.logit(1e-6), (size[0] + size[1].flip(-1)) / 2, offset[0])
