"""The second stage of R-CNN, Fast R-CNN and Faster R-CNN, which classifies and refines regions.

Shape letters: B images, K classes, R regions of all images, R_b of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from detzoo.detector import Detector
from detzoo.nn import FPN, BoxHead, OneMap, RegionFeatures
from detzoo.ops.rois import region_candidates, region_losses, sample_regions
from detzoo.types import Candidates, Images, Target


class RegionOutputs(NamedTuple):
    rois: list[Tensor]  # per image (R_b, 4); with targets, the sampled ones
    labels: Tensor | None  # (R,) in [0, K], K is background; only with targets
    boxes: Tensor | None  # (R, 4) the object of every region; only with targets
    scores: Tensor  # (R, K + 1) logits
    deltas: Tensor  # (R, K, 4)


class RegionDetector(Detector):
    """A detector that names and moves regions; a subclass writes `classify`.

    roi_positive: a region is one from this IoU with an object on; roi_background: and background
    from this one on, below it it is not trained on. roi_batch: regions of an image that are trained
    on, at most roi_positive_fraction of them positives. box_beta: smooth L1's. top_k: candidates of
    an image that reach NMS.

    A subclass's constructor sets them. The outputs of `network` are RegionOutputs, or end with
    their fields.
    """

    roi_positive: float
    roi_background = 0.0
    roi_batch: int
    roi_positive_fraction: float
    box_beta: float
    top_k: int

    def classify(self, features: Any, rois: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features, per image (R_b, 4) regions -> scores (R, K + 1), deltas (R, K, 4)."""
        raise NotImplementedError

    def second_stage(
        self, features: Any, rois: list[Tensor], targets: Sequence[Target] | None
    ) -> RegionOutputs:
        """The second stage of all regions or, with targets, of a sample to train on."""
        labels = boxes = None
        if targets is not None:
            rois, labels, boxes = self.assign(rois, targets)
        return RegionOutputs(rois, labels, boxes, *self.classify(features, rois))

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

    def losses(self, outputs: Any, targets: Sequence[Target]) -> dict[str, Tensor]:
        rois, labels, boxes, scores, deltas = outputs[-len(RegionOutputs._fields) :]
        return region_losses(scores, deltas, rois, labels, boxes, self.box_beta)

    def candidates(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> Candidates:
        return region_candidates(outputs.scores, outputs.deltas, outputs.rois, self.top_k)


class PooledRegionDetector(RegionDetector):
    """A RegionDetector that reads regions from the maps of the whole image.

    A subclass's constructor makes `neck`, `regions` of its `region_strides`, and `head`.
    """

    neck: FPN | OneMap
    regions: RegionFeatures
    head: BoxHead

    def region_strides(self) -> list[int]:
        """Of the neck's maps that regions are read from: none is coarser than the backbone's."""
        return [stride for stride in self.neck.strides if stride <= self.backbone.strides[-1]]

    def classify(self, features: Sequence[Tensor], rois: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        pooled = self.regions(features[: len(self.regions.strides)], rois)  # (R, C, 7, 7)
        return self.head(pooled)  # (R, K + 1), (R, K, 4)


def given_proposals(images: Images, most: int) -> list[Tensor]:
    """Per image the first `most` of its proposals. ValueError for images that carry none at all."""
    if images.proposals is None:
        raise ValueError(
            "these images come without proposals (Images.proposals is None), and R-CNN and Fast "
            "R-CNN look nowhere else: detzoo.data.with_proposals adds them to a data set, "
            "Detector.predict computes them by itself"
        )
    return [proposals[:most] for proposals in images.proposals]
