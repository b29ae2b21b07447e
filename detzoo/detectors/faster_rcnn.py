"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks
(Ren 2015, arXiv:1506.01497), on one feature map as in the paper or on a pyramid (1612.03144).

A small network slides over the features and proposes regions; the regions are pooled from the same
features and classified. Both are trained together, in one step: approximate joint training, since
the regions' boxes pass no gradient to the network that proposed them. With `box_gradient` they do,
through RoI Align only.

Where we depart: joint instead of 4-step alternating training; RoI Align is the default
(1703.06870), `region_features: pool` is the paper's. On a pyramid anchors that cross the image's
edge are trained on, as in the code of its followers; on one map they are left out as in the paper
(section 3.1.3). Proposals are clipped in training and at test and dropped only if empty, not below
16 px. No dropout unless `dropout` is set, which VGG16 has. The true boxes join the proposals in
training, as in the published code. Both terms of equation 1 are over the sampled anchors, with a
weight of 1 (the paper: over 256 anchors and 2400 cells, with a lambda of 10, which is about the
same). Deltas of the second stage are divided by fixed deviations of 0.1 and 0.2; smooth L1's beta
is 1/9 in both stages, as in torchvision (the code has 1/9 in the RPN and 1 in the second stage:
`rpn_beta` and `box_beta`).

Shape letters: B images, K classes, A anchors a cell, N anchors in all, R regions of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from detzoo.nn import Anchors, Backbone, BoxHead, RegionFeatures, make_neck
from detzoo.nn.rpn import RPN, RPNOutputs, Sampling, Suppression
from detzoo.region_detector import PooledRegionDetector, RegionOutputs
from detzoo.types import Images, Target


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
    sizes: tuple[tuple[int, int], ...] = ()  # (height, width) of every image before padding


class FasterRCNN(PooledRegionDetector):
    """See the module's text. Sizes are in input pixels.

    neck: `fpn`, or `one_map`, the backbone's last map: the paper's is at stride 16, which is a
    backbone with max_stride=16. upsample_by: how the pyramid's maps are enlarged
    (nn.upsample.UPSAMPLES), by default nearest (1612.03144, section 3). anchor_sizes: per level; by
    default smallest_anchor at the finest, doubled at every further one, and the paper's 128, 256,
    512 on one map. pre_nms, post_nms: proposals before and after NMS, in training and at test.
    edge_anchors: see nn.rpn.RPN; by default with a pyramid alone. dropout: of the head's two
    layers.

    canonical_size: of a pyramid, sides of a region that is read from P4; one half as large is read
    from P3. It is the paper's 224, of images of 800 px and anchors from 32 px on, and stays so
    where smallest_anchor is smaller: at 320 px and below nearly all regions are read from P2, and
    P3 to P5 serve the RPN alone (experiments/region_levels.yaml).
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
        rpn_beta: float | None = None,  # None: box_beta
        edge_anchors: bool | None = None,  # section 3.1.3
        pre_nms: tuple[int, int] = (2000, 1000),
        post_nms: tuple[int, int] = (2000, 1000),  # section 3.3: 2000 and 300
        region_features: str = "align",
        region_size: int = 7,  # 1504.08083, section 2.1
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: float = 224.0,  # 1612.03144, equation 1
        box_gradient: bool = False,
        head_width: int = 1024,  # 1612.03144, section 4.2
        dropout: float = 0.0,
        roi_positive: float = 0.5,  # 1504.08083, section 2.3
        roi_batch: int = 512,  # 1612.03144, section 5.2
        roi_positive_fraction: float = 0.25,  # 1504.08083, section 2.3
        box_beta: float = 1 / 9,
        score_threshold: float = 0.05,
        top_k: int = 1000,  # candidates an image that reach NMS
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=32, backbone=backbone)
        self.neck = make_neck(neck, backbone, channels, levels, upsample_by)
        sizes = anchor_sizes or default_anchor_sizes(neck, self.neck.strides, smallest_anchor)
        anchors = Anchors(self.neck.strides, sizes, ratios, anchors_as_torchvision)
        sampling = Sampling(rpn_positive, rpn_negative, rpn_batch, rpn_positive_fraction)
        suppression = Suppression(pre_nms, post_nms, rpn_nms_threshold)
        beta = box_beta if rpn_beta is None else rpn_beta
        edges = neck == "fpn" if edge_anchors is None else edge_anchors
        self.rpn = RPN(self.neck.channels, anchors, sampling, suppression, beta, edges)
        strides = self.region_strides()  # not P6
        self.regions = RegionFeatures(
            strides, region_features, region_size, sampling_ratio, aligned, canonical_size
        )
        self.head = BoxHead(
            self.neck.channels, region_size, head_width, num_classes, dropout, backbone
        )
        self.box_gradient = box_gradient
        self.roi_positive, self.roi_batch = roi_positive, roi_batch
        self.roi_positive_fraction, self.box_beta = roi_positive_fraction, box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    @property
    def rpn_batch(self) -> int:
        """Anchors of an image that are trained on."""
        return self.rpn.batch

    @rpn_batch.setter
    def rpn_batch(self, number: int) -> None:
        self.rpn.batch = number

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        maps, first, rois = self.first_stage(images, training=targets is not None)
        return Outputs(*first, *self.second_stage(maps, rois, targets), tuple(images.sizes))

    def first_stage(
        self, images: Images, training: bool
    ) -> tuple[list[Tensor], RPNOutputs, list[Tensor]]:
        """The maps, the RPN's outputs, and per image the regions (R_b, 4) it proposes."""
        maps = self.neck(self.backbone(self.normalise(images)))  # per level (B, C, h, w)
        first = self.rpn(maps, images.pixels.shape[-2:])
        gradient = self.box_gradient and training
        return maps, first, self.rpn.propose(first, images.sizes, training, gradient)

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        own = len(RPNOutputs._fields)
        first, second = RPNOutputs(*outputs[:own]), RegionOutputs(*outputs[own:-1])
        return self.rpn.losses(first, targets, outputs.sizes) | super().losses(second, targets)


def default_anchor_sizes(neck: str, strides: Sequence[int], smallest: float) -> list[list[float]]:
    """Per level; see FasterRCNN's anchor_sizes."""
    if neck == "one_map":
        return [[128.0, 256.0, 512.0]]  # section 3.1.1
    return [[smallest * stride / strides[0]] for stride in strides]  # 1612.03144, section 4.1
