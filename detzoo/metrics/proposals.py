"""How many objects are covered by the first n proposals of their image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou


def recall(
    proposals: Sequence[Tensor],
    truths: Sequence[Tensor],
    counts: Sequence[int],
    thresholds: Sequence[float] = (0.5, 0.7),
) -> np.ndarray:
    """(len(thresholds), len(counts)): share of all boxes that one of an image's first n proposals
    covers.

    proposals: per image (P, 4) xyxy, best first. truths: per image (M, 4), without crowds. Covered
    is an IoU >= threshold; one proposal may cover several boxes. NaN where there are no boxes.
    """
    best = [np.zeros((0, len(counts)))]
    for found, truth in zip(proposals, truths, strict=True):
        overlap = torch.zeros(len(truth), len(counts))
        if len(found):
            running = box_iou(truth, found).cummax(1).values  # (M, P)
            for column, count in enumerate(counts):
                if count > 0:
                    overlap[:, column] = running[:, min(count, len(found)) - 1]
        best.append(overlap.numpy())
    table = np.concatenate(best)  # (all boxes, counts)
    if not len(table):
        return np.full((len(thresholds), len(counts)), np.nan)
    return np.stack([(table >= threshold).mean(0) for threshold in thresholds])
