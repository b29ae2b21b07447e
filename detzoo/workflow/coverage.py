"""The recall of the proposals of R-CNN and Fast R-CNN, an upper bound of the detectors'."""

from __future__ import annotations

import math
from typing import Any

from detzoo.data import Dataset, with_proposals
from detzoo.detector import Detector
from detzoo.metrics.proposals import recall

RECALL_AT = (0.5, 0.7)  # IoU of a region and an object that it covers
COVERAGE = (
    "its regions come from {kind}, {regions:.0f} an image, which cover {recall50:.3f} of the "
    "objects at an IoU of 0.5 and {recall70:.3f} at 0.7"
)


def measure_coverage(dataset: Dataset, detector: Detector) -> dict[str, Any]:
    """The detector's proposer, and the recall of its proposals on the data set."""
    samples = with_proposals(dataset, detector.proposer).samples
    truths = [sample.boxes[~sample.crowd] for sample in samples]
    regions = [sample.proposals[: detector.max_proposals] for sample in samples]
    covered = recall(regions, truths, [detector.max_proposals], RECALL_AT)[:, 0]
    return {
        **detector.proposer.describe(),
        "regions": sum(map(len, regions)) / max(1, len(regions)),
        **{
            f"recall{100 * iou:.0f}": None if math.isnan(part) else float(part)
            for iou, part in zip(RECALL_AT, covered, strict=True)
        },
    }
