"""R-CNN: Rich feature hierarchies (Girshick 2014, arXiv:1311.2524).

Every proposal is cut out of the image, warped to one size and sent through the whole backbone by
itself. The proposals are inputs (Images.proposals).

Where we depart: a softmax and a regression per class, trained with the backbone in one step,
replace the linear SVMs and the ridge regressors that were fitted afterwards (appendix B: 3.3 mAP
less with the softmax), so positives are regions with an IoU of 0.5 for the boxes too, not 0.6.
Their loss is Fast R-CNN's, smooth L1 of deltas divided by deviations of 0.1 and 0.2, where appendix
C fits plain deltas by least squares. No dropout unless `dropout` is set, which VGG16 has. The true
boxes join the proposals in training. A region is cut out of the image as it is resized, padded with
its mean colour.

Shape letters: B images, K classes, R regions of all images, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detzoo.detector import Proposer
from detzoo.nn import Backbone, BoxHead, GlobalPoolingHead
from detzoo.ops.regions import warp, with_context
from detzoo.ops.rois import with_image
from detzoo.region_detector import RegionDetector, RegionOutputs, given_proposals
from detzoo.text import check_choice
from detzoo.types import Images, Target


class RCNN(RegionDetector):
    """See the module's text. Sizes are in input pixels.

    proposer: proposes the regions of new images; by default detzoo.data.Grid. max_proposals: the
    number of an image's best proposals that are used. crop: the side S to which a region is warped.
    context: pixels of the crop, on each side, that show the region's surroundings. chunk: crops
    that go through the backbone at once, which bounds the memory. roi_batch: regions of an image
    that are trained on; two images' 64 are the paper's batch of 32 positives and 96 others. head:
    "fc", two fully connected layers, or "gap", the mean over the map and no hidden layer, which
    allows class activation maps (1512.04150). head_width, dropout: of fc's; VGG16's is 0.5.
    """

    needs_proposals = True
    fixed_shapes = False  # the number of crops varies

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        proposer: Proposer | None = None,
        max_proposals: int = 2000,  # section 2.2
        crop: int = 224,  # VGG16's; section 2.1 has AlexNet's 227
        context: int = 16,  # appendix A
        chunk: int = 128,
        head: str = "fc",
        head_width: int = 4096,  # section 2.1
        dropout: float = 0.0,
        roi_positive: float = 0.5,  # section 2.3
        roi_batch: int = 64,  # section 2.3
        roi_positive_fraction: float = 0.25,  # section 2.3
        box_beta: float = 1.0,
        score_threshold: float = 0.05,
        top_k: int = 1000,  # candidates an image that reach NMS
        nms_threshold: float = 0.3,
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=1, backbone=backbone, proposer=proposer)
        if not 0 <= 2 * context < crop:
            raise ValueError(
                f"detector.context is {context}; a crop of {crop} needs less than half"
            )
        if chunk < 1:
            raise ValueError(f"detector.chunk is {chunk}; it must be at least 1")
        check_choice("detector.head", head, ("fc", "gap"))
        channels, size = backbone.channels[-1], -(-crop // backbone.strides[-1])
        if head == "gap":
            self.head = GlobalPoolingHead(channels, num_classes)
        else:
            self.head = BoxHead(channels, size, head_width, num_classes, dropout, backbone)
        self.crop, self.context, self.chunk = crop, context, chunk
        self.max_proposals = max_proposals
        self.roi_positive, self.roi_batch = roi_positive, roi_batch
        self.roi_positive_fraction, self.box_beta = roi_positive_fraction, box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> RegionOutputs:
        pixels = self.normalise(images)  # outside of an image it is 0, the mean colour (appendix A)
        return self.second_stage(pixels, given_proposals(images, self.max_proposals), targets)

    def classify(self, features: Tensor, rois: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) pixels, per image (R_b, 4) -> scores (R, K + 1), deltas (R, K, 4)."""
        regions = with_image(rois)  # (R, 5)
        chunks = max(1, -(-len(regions) // self.chunk))
        answers = [self.look_at_once(features, part) for part in regions.tensor_split(chunks)]
        scores, deltas = (torch.cat(part) for part in zip(*answers, strict=True))
        return scores, deltas

    def look_at_once(self, pixels: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), (R, 5) image and box -> scores (R, K + 1), deltas (R, K, 4)."""
        count = len(regions)
        crops = warp(pixels, regions, self.crop, self.context)  # (R, 3, S, S)
        # Blank ones for company: batch norm in training fails with fewer than two.
        crops = F.pad(crops, (0, 0) * 3 + (0, max(0, 2 - count)))
        features = self.backbone(crops)[-1]  # (R, C, S / stride, S / stride)
        scores, deltas = self.head(features)
        return scores[:count], deltas[:count]

    def crops(self, outputs: RegionOutputs) -> Tensor:
        return with_context(torch.cat(outputs.rois), self.crop, self.context)
