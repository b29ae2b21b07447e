"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks
(Ren 2015, arXiv:1506.01497), on one feature map as in the paper or on a pyramid (1612.03144).

A small network slides over the features and proposes regions; the regions are pooled from the same
features and classified. Both are trained together, in one step.

Where we depart: joint instead of 4-step alternating training; proposals that cross the image's edge
are clipped in training too, not dropped; RoI Align is the default (1703.06870), `region_features:
pool` is the paper's.

Shape letters: B images, K classes, A anchors a cell, N anchors in all, R regions of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import Anchors, Backbone, BoxHead, RegionFeatures, make_neck
from detzoo.nn.blocks import OutputConv
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import per_anchor
from detzoo.ops.assign import match, sample
from detzoo.ops.losses import normaliser, smooth_l1
from detzoo.ops.rois import region_candidates, region_losses, sample_regions
from detzoo.ops.select import grouped_nms, top_candidates
from detzoo.types import Candidates, Images, Target


class FirstStage(NamedTuple):
    maps: list[Tensor]  # per level (B, C, h, w)
    objectness: Tensor  # (B, N) logits
    deltas: Tensor  # (B, N, 4)
    anchors: Tensor  # (N, 4)
    counts: tuple[int, ...]  # anchors of each level
    rois: list[Tensor]  # per image (R_b, 4), best first


class Outputs(NamedTuple):
    objectness: Tensor  # (B, N) logits
    rpn_deltas: Tensor  # (B, N, 4)
    anchors: Tensor  # (N, 4)
    counts: tuple[int, ...]  # anchors of each level
    rois: list[Tensor]  # per image (R_b, 4); with targets, the sampled ones
    roi_labels: Tensor | None  # (R,) in [0, K], K is background; only with targets
    roi_boxes: Tensor | None  # (R, 4) the object of every region; only with targets
    scores: Tensor  # (R, K + 1) logits
    deltas: Tensor  # (R, K, 4)


class RPNHead(nn.Module):
    """A 3x3 convolution, then objectness and deltas for A anchors a cell (section 3.1)."""

    def __init__(self, channels: int, width: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.objectness = OutputConv(width, anchors, 1)
        self.deltas = OutputConv(width, anchors * 4, 1)
        nn.init.kaiming_normal_(self.conv.weight)
        for layer in (self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)  # section 3.1.3
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        hidden = [self.conv(x).relu() for x in maps]
        return [self.objectness(x) for x in hidden], [self.deltas(x) for x in hidden]


class FasterRCNN(Detector):
    """See the module's text. Sizes are in input pixels.

    neck: `fpn`, or `one_map`, the backbone's last map: the paper's is at stride 16, which is a
    backbone with max_stride=16. upsample_by: how the pyramid's maps are enlarged
    (nn.upsample.UPSAMPLES), by default nearest (1612.03144, section 3). anchor_sizes: per level; by
    default smallest_anchor at the finest, doubled at every further one, and the paper's 128, 256,
    512 on one map. pre_nms, post_nms: proposals before and after NMS, in training and at test.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        neck: str = "fpn",
        channels: int = 256,  # 1612.03144, section 4.1
        levels: tuple[int, int] = (2, 6),  # 1612.03144, section 4.1
        upsample_by: str | None = None,
        smallest_anchor: float = 32.0,  # 1612.03144, section 4.1
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),  # section 3.1.1
        anchors_as_torchvision: bool = False,
        rpn_positive: float = 0.7,  # section 3.1.2
        rpn_negative: float = 0.3,  # section 3.1.2
        rpn_batch: int = 256,  # section 3.1.3
        rpn_positive_fraction: float = 0.5,  # section 3.1.3
        rpn_nms_threshold: float = 0.7,  # section 3.3
        pre_nms: tuple[int, int] = (2000, 1000),
        post_nms: tuple[int, int] = (2000, 1000),  # section 3.3: 2000 and 300
        region_features: str = "align",
        region_size: int = 7,  # 1504.08083, section 2.1
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: float = 224.0,  # 1612.03144, equation 1
        head_width: int = 1024,  # 1612.03144, section 4.2
        roi_positive: float = 0.5,  # 1504.08083, section 2.3
        roi_batch: int = 512,  # 1612.03144, section 5.2
        roi_positive_fraction: float = 0.25,  # 1504.08083, section 2.3
        box_beta: float = 1 / 9,
        score_threshold: float = 0.05,
        top_k: int = 1000,  # candidates an image that reach NMS
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=32, mean=backbone.mean, std=backbone.std)
        self.backbone = backbone
        self.neck = make_neck(
            neck, backbone, channels=channels, levels=levels, upsample_by=upsample_by
        )
        strides = self.neck.strides
        if neck == "fpn":
            sizes = anchor_sizes or [[smallest_anchor * s / strides[0]] for s in strides]
        else:
            sizes = anchor_sizes or [[128.0, 256.0, 512.0]]  # section 3.1.1
        self.anchors = Anchors(strides, sizes, ratios, anchors_as_torchvision)
        self.rpn = RPNHead(self.neck.channels, self.neck.channels, self.anchors.a_cell)
        self.regions = RegionFeatures(
            [stride for stride in strides if stride <= backbone.strides[-1]],
            kind=region_features,
            size=region_size,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            canonical_size=canonical_size,
        )
        self.head = BoxHead(self.neck.channels, region_size, head_width, num_classes)
        self.rpn_positive, self.rpn_negative = rpn_positive, rpn_negative
        self.rpn_batch, self.rpn_positive_fraction = rpn_batch, rpn_positive_fraction
        self.rpn_nms_threshold, self.pre_nms, self.post_nms = rpn_nms_threshold, pre_nms, post_nms
        self.roi_positive = roi_positive
        self.roi_batch, self.roi_positive_fraction = roi_batch, roi_positive_fraction
        self.box_beta = box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        first = self.first_stage(images, 1 if targets is None else 0)
        rois, roi_labels, roi_boxes = first.rois, None, None
        if targets is not None:
            rois, roi_labels, roi_boxes = self.assign(rois, targets)
        features = self.regions(first.maps[: len(self.regions.strides)], rois)  # (R, C, 7, 7)
        scores, deltas = self.head(features)
        return Outputs(
            first.objectness,
            first.deltas,
            first.anchors,
            first.counts,
            rois,
            roi_labels,
            roi_boxes,
            scores,
            deltas,
        )

    def first_stage(self, images: Images, when: int) -> FirstStage:
        """What the RPN says and proposes. when: 0 in training, 1 at test."""
        maps = self.neck(self.backbone(self.normalise(images)))
        objectness, deltas = self.rpn(maps)  # per level (B, A, h, w), (B, A*4, h, w)
        anchors = self.anchors(maps, images.pixels.shape[-2:])
        counts = tuple(x[0].numel() for x in objectness)
        objectness = per_anchor(objectness, 1).squeeze(2)  # (B, N)
        deltas = per_anchor(deltas, 4)  # (B, N, 4)
        rois = self.propose(objectness, deltas, anchors, counts, images.sizes, when)
        return FirstStage(maps, objectness, deltas, anchors, counts, rois)

    @torch.no_grad()
    def propose(
        self,
        objectness: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        counts: tuple[int, ...],
        sizes: Sequence[tuple[int, int]],
        when: int,
    ) -> list[Tensor]:
        """Per image (R_b, 4): the best anchors of every level, moved, clipped, thinned by NMS.

        counts: anchors of each level. when: 0 in training, 1 at test.
        """
        scores, index, level, start = [], [], [], 0
        for i, logits in enumerate(objectness.float().split(counts, 1)):
            best, where, _ = top_candidates(logits[..., None], self.pre_nms[when])
            scores.append(best)
            index.append(where + start)
            level.append(torch.full_like(where, i))
            start += counts[i]
        score, chosen, group = (torch.cat(part, 1) for part in (scores, index, level))  # (B, P)
        moved = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
        boxes = box_ops.clip(box_ops.decode(anchors[chosen], moved), sizes)
        valid = (boxes[..., 2:] - boxes[..., :2] >= 1e-3).all(-1)
        rois = []
        for b, s, g, v in zip(boxes, score, group, valid, strict=True):
            b, s, g = b[v], s[v], g[v]
            kept = grouped_nms(b, s, g, self.rpn_nms_threshold)
            rois.append(b[kept[: self.post_nms[when]]])
        return rois

    def assign(
        self, rois: list[Tensor], targets: Sequence[Target]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        return sample_regions(
            rois,
            targets,
            num_classes=self.num_classes,
            positive=self.roi_positive,
            size=self.roi_batch,
            positive_fraction=self.roi_positive_fraction,
        )

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        return self.rpn_losses(outputs, targets) | region_losses(
            outputs.scores,
            outputs.deltas,
            outputs.rois,
            outputs.roi_labels,
            outputs.roi_boxes,
            self.box_beta,
        )

    def rpn_losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Equation 1, both terms over the number of sampled anchors."""
        logits, wanted, deltas, true_deltas = [], [], [], []
        for i, target in enumerate(targets):
            matched = match(
                outputs.anchors,
                target,
                positive=self.rpn_positive,
                negative=self.rpn_negative,
                force=True,
            )
            positive, negative = sample(matched, self.rpn_batch, self.rpn_positive_fraction)
            logits.append(outputs.objectness[i, torch.cat([positive, negative])])
            wanted.append(torch.cat([torch.ones_like(positive), torch.zeros_like(negative)]))
            deltas.append(outputs.rpn_deltas[i, positive])
            boxes = target.boxes[matched[positive]]
            true_deltas.append(box_ops.encode(outputs.anchors[positive], boxes))
        logit, label = torch.cat(logits).float(), torch.cat(wanted).float()
        count = normaliser(len(label))
        entropy = F.binary_cross_entropy_with_logits(logit, label, reduction="sum")
        box = smooth_l1(torch.cat(deltas), torch.cat(true_deltas), self.box_beta).sum()
        return {"rpn_objectness": entropy / count, "rpn_box": box / count}

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        return region_candidates(outputs.scores, outputs.deltas, outputs.rois, self.top_k)
