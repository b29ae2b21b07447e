"""Detections from scored boxes: score threshold, class-wise NMS, maximum number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detzoo.ops import fast
from detzoo.ops.nms import nms
from detzoo.types import Candidates, Detections


def top_candidates(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, K) -> scores, reference indices, labels: each (B, min(count, N * K)), best first."""
    classes = scores.shape[2]
    scores, index = fast.topk(scores.flatten(1), min(count, scores[0].numel()))
    return scores, index // classes, index % classes


def top_of_levels(
    scores: Tensor, counts: Sequence[int], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`top_candidates` of each level, the best `count` of each, concatenated.

    scores: (B, N, K), the levels one after the other; counts: of each, how many of the N.
    """
    parts, start = [], 0
    for level in scores.split(tuple(counts), 1):
        best, index, labels = top_candidates(level, count)
        parts.append((best, index + start, labels))
        start += level.shape[1]
    scores, index, labels = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return scores, index, labels


def boxes_above(scores: Tensor, threshold: float) -> Tensor:
    """(B, N, K) -> (B, M): indices of boxes of which any class scores more, best first.

    M is the most that an image has; other images are filled with their next boxes. All N on a GPU,
    which would have to wait for the number, and in an exported graph, whose shapes are fixed.
    """
    if scores.is_cuda or torch.compiler.is_exporting() or not scores.numel():
        return torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
    best = scores.amax(2)
    most = int((best > threshold).sum(1).max())
    return best.topk(most, dim=1).indices


def select(
    candidates: Candidates,
    *,
    score_threshold: float,
    nms_threshold: float | None,
    max_detections: int,
) -> list[Detections]:
    """Select a batch's detections from its clipped candidates, by `select_padded`."""
    boxes, scores, labels, kept = select_padded(
        candidates,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        max_detections=max_detections,
    )
    counts = kept.sum(1).tolist()
    return [
        Detections(boxes=b[:n], scores=s[:n], labels=k[:n])
        for b, s, k, n in zip(boxes, scores, labels, counts, strict=True)
    ]


def select_padded(
    candidates: Candidates,
    *,
    score_threshold: float,
    nms_threshold: float | None,
    max_detections: int,
    suppress: Callable[..., tuple[Tensor, Tensor]] = nms,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (B, D, 4), scores and labels (B, D), best first, and (B, D) bool: which are detected.

    Candidates with score > score_threshold are kept; NMS (None: none) suppresses within one image
    and label; the best `max_detections` of each image are taken, and those that are detected come
    before what fills up. suppress: who computes what `nms` does.
    """
    boxes, scores, labels = candidates.boxes.float(), candidates.scores.float(), candidates.labels
    keep = (scores > score_threshold) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    if nms_threshold is None:
        order = scores.masked_fill(~keep, -torch.inf).argsort(dim=1, descending=True, stable=True)
        index = order[:, :max_detections]
        kept = keep.gather(1, index)
    else:
        index, kept = suppress(boxes, scores, labels, keep, nms_threshold, max_detections)
    boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return boxes, scores.gather(1, index), labels.gather(1, index), kept
