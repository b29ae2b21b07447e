"""Fast R-CNN (Girshick 2015, arXiv:1504.08083), on one feature map as in the paper or on a pyramid.

The backbone sees the image once; every proposal's features are pooled from what it saw, and two
fully connected layers name and move the region. The proposals come from outside (Images.proposals).

Where we depart: RoI Align is the default (1703.06870), `region_features: pool` is the paper's; the
true boxes join the proposals in training. No truncated SVD (section 3.1).

Shape letters: B images, K classes, R regions of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from detzoo.detector import Detector, Proposer
from detzoo.nn import Backbone, BoxHead, RegionFeatures, make_neck
from detzoo.ops.rois import given, region_candidates, region_losses, sample_regions
from detzoo.types import Candidates, Images, Target


class Outputs(NamedTuple):
    rois: list[Tensor]  # per image (R_b, 4); with targets, the sampled ones
    labels: Tensor | None  # (R,) in [0, K], K is background; only with targets
    boxes: Tensor | None  # (R, 4) the object of every region; only with targets
    scores: Tensor  # (R, K + 1) logits
    deltas: Tensor  # (R, K, 4)


class FastRCNN(Detector):
    """See the module's text. Sizes are in input pixels.

    proposer: who proposes regions of new images; by default detzoo.data.Grid. max_proposals: the
    best so many of an image are looked at. neck: `one_map`, the backbone's last map (the paper's is
    at stride 16: a backbone with max_stride=16), or `fpn`. upsample_by: how the pyramid's maps are
    enlarged (nn.upsample.UPSAMPLES), by default nearest (1612.03144, section 3). roi_background: a
    region whose best IoU is below it is not trained on, a poor man's search for hard negatives;
    images without an object then teach nothing, so Faster R-CNN and later code have 0.
    """

    needs_proposals = True

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        proposer: Proposer | None = None,
        max_proposals: int = 2000,  # section 3
        neck: str = "one_map",
        channels: int = 256,  # 1612.03144, section 4.1
        levels: tuple[int, int] = (2, 5),  # 1612.03144, section 4.2
        upsample_by: str | None = None,
        region_features: str = "align",
        region_size: int = 7,  # section 2.1
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: float = 224.0,  # 1612.03144, equation 1
        head_width: int = 4096,  # VGG16's
        roi_positive: float = 0.5,  # section 2.3
        roi_background: float = 0.1,  # section 2.3
        roi_batch: int = 64,  # of an image; section 2.3
        roi_positive_fraction: float = 0.25,  # section 2.3
        box_beta: float = 1.0,  # equation 3
        score_threshold: float = 0.05,
        top_k: int = 1000,  # candidates an image that reach NMS
        nms_threshold: float = 0.3,
        max_detections: int = 100,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            stride=32,
            mean=backbone.mean,
            std=backbone.std,
            proposer=proposer,
        )
        self.backbone = backbone
        self.neck = make_neck(
            neck, backbone, channels=channels, levels=levels, upsample_by=upsample_by
        )
        self.regions = RegionFeatures(
            [stride for stride in self.neck.strides if stride <= backbone.strides[-1]],
            kind=region_features,
            size=region_size,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            canonical_size=canonical_size,
        )
        self.head = BoxHead(self.neck.channels, region_size, head_width, num_classes)
        self.max_proposals = max_proposals
        self.roi_positive, self.roi_background = roi_positive, roi_background
        self.roi_batch, self.roi_positive_fraction = roi_batch, roi_positive_fraction
        self.box_beta = box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        rois, labels, boxes = given(images, self.max_proposals), None, None
        if targets is not None:
            rois, labels, boxes = self.assign(rois, targets)
        maps = self.neck(self.backbone(self.normalise(images)))  # per level (B, C, h, w)
        features = self.regions(maps[: len(self.regions.strides)], rois)  # (R, C, 7, 7)
        scores, deltas = self.head(features)
        return Outputs(rois, labels, boxes, scores, deltas)

    def assign(
        self, rois: list[Tensor], targets: Sequence[Target]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Sample regions to train on: per image (R_b, 4), labels (R,), their objects (R, 4)."""
        return sample_regions(
            rois,
            targets,
            num_classes=self.num_classes,
            positive=self.roi_positive,
            background=self.roi_background,
            size=self.roi_batch,
            positive_fraction=self.roi_positive_fraction,
        )

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        return region_losses(
            outputs.scores,
            outputs.deltas,
            outputs.rois,
            outputs.labels,
            outputs.boxes,
            self.box_beta,
        )

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        return region_candidates(outputs.scores, outputs.deltas, outputs.rois, self.top_k)
