"""Fast R-CNN (Girshick 2015, arXiv:1504.08083), on one feature map as in the paper or on a pyramid.

The backbone sees the image once; every proposal's features are pooled from its map, and two fully
connected layers classify and move the region. The proposals come from outside (Images.proposals).

Where we depart: RoI Align is the default (1703.06870), `region_features: pool` is the paper's; the
true boxes join the proposals in training. Deltas are divided by fixed deviations of 0.1 and 0.2, as
in the published code's successors, where section 2.3 normalises by those of the training set. No
dropout unless `dropout` is set, which VGG16 has. No truncated SVD (section 3.1).

Shape letters: B images, K classes, R regions of all images.
"""

from __future__ import annotations

from collections.abc import Sequence

from detzoo.detector import Proposer
from detzoo.nn import Backbone, BoxHead, RegionFeatures, make_neck
from detzoo.region_detector import PooledRegionDetector, RegionOutputs, given_proposals
from detzoo.types import Images, Target


class FastRCNN(PooledRegionDetector):
    """See the module's text. Sizes are in input pixels.

    proposer: proposes the regions of new images; by default detzoo.data.Grid. max_proposals: the
    number of an image's best proposals that are used. neck: `one_map`, the backbone's last map (the
    paper's is at stride 16: a backbone with max_stride=16), or `fpn`. upsample_by: how the
    pyramid's maps are enlarged (nn.upsample.UPSAMPLES), by default nearest (1612.03144, section 3).
    roi_background: a region whose best IoU is below it is not trained on, a simple substitute for
    hard negative mining; images without an object then contribute nothing, so Faster R-CNN and
    later code have 0. dropout: of the head's two layers; VGG16's is 0.5.

    canonical_size: with a pyramid, the sides of a region that is read from P4; one half as large is
    read from P3. It is the pyramid paper's 224, for images of 800 px: at 320 px and below nearly
    all regions are read from P2, and P3 to P5 learn little or nothing
    (experiments/region_levels.yaml).
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
        dropout: float = 0.0,
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
        super().__init__(num_classes=num_classes, stride=32, backbone=backbone, proposer=proposer)
        self.neck = make_neck(neck, backbone, channels, levels, upsample_by)
        strides = self.region_strides()
        self.regions = RegionFeatures(
            strides, region_features, region_size, sampling_ratio, aligned, canonical_size
        )
        self.head = BoxHead(
            self.neck.channels, region_size, head_width, num_classes, dropout, backbone
        )
        self.max_proposals = max_proposals
        self.roi_positive, self.roi_background = roi_positive, roi_background
        self.roi_batch, self.roi_positive_fraction = roi_batch, roi_positive_fraction
        self.box_beta = box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> RegionOutputs:
        maps = self.neck(self.backbone(self.normalise(images)))  # per level (B, C, h, w)
        return self.second_stage(maps, given_proposals(images, self.max_proposals), targets)
