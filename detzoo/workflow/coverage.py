"""How many objects the regions of R-CNN and Fast R-CNN cover, which bounds what they can find."""

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
    """Who proposes this detector's regions, and how many of the data set's objects they cover."""
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
