"""From scored boxes to detections: floor, non-maximum suppression within classes, cap."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor
from torchvision.ops import nms

from detzoo.ops import boxes as box_ops
from detzoo.types import Candidates, Detections

GROUP = 64
FEW = 512  # boxes; comparing all of them takes less than calling NMS for every group


def top_candidates(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, K) -> scores, reference indices, labels: each (B, min(count, N * K)), best first."""
    classes = scores.shape[2]
    scores, index = largest(scores.flatten(1), min(count, scores[0].numel()))
    return scores, index // classes, index % classes


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(B, N) -> float32 values and indices (B, count), as topk along dimension 1.

    In two steps where N is large: the largest `count` lie in the `count` groups of GROUP whose
    maxima are largest, or among those left over at the end. A CPU sorts a GROUPth as much.
    """
    groups = values.shape[1] // GROUP
    if groups <= count:
        return values.float().topk(count, dim=1)  # a CPU is slow at sorting halves
    whole = groups * GROUP
    maxima = values[:, :whole].unflatten(1, (groups, GROUP)).amax(2).float()
    best = maxima.topk(count, dim=1).indices[..., None] * GROUP
    index = (best + torch.arange(GROUP, device=values.device)).flatten(1)
    rest = torch.arange(whole, values.shape[1], device=values.device)
    index = torch.cat([index, rest.expand(len(values), -1)], 1)
    values, order = values.gather(1, index).float().topk(count, dim=1)
    return values, index.gather(1, order)


def boxes_above(scores: Tensor, threshold: float) -> Tensor:
    """(B, N, K) -> (B, M): indices of boxes of which any class scores more, best first.

    M is the most that an image has; others fill up with what comes next. All N on a GPU, which
    would have to wait for the number.
    """
    if scores.is_cuda or not scores.numel():
        return torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
    best = scores.amax(2)
    most = int((best > threshold).sum(1).max())
    return best.topk(most, dim=1).indices


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Indices that survive NMS among boxes of one group, best score first.

    In one call with every group shifted to a place of its own, in float64, because a shift of a
    million pixels leaves float32 an eighth of a pixel and NMS then decides otherwise. On a CPU,
    where NMS compares all pairs, group by group where these are many.
    """
    if len(boxes) == 0:
        return groups.new_zeros(0)
    boxes = boxes.double()
    if boxes.is_cuda or len(boxes) <= FEW:
        shift = groups.double() * (boxes.max() - boxes.min() + 1)
        return nms(boxes + shift[:, None], scores.double(), threshold)
    order = groups.argsort(stable=True)
    ordered = boxes[order], scores[order].double()
    sizes = [size for size in torch.bincount(groups).tolist() if size]
    kept, alone, start = [], [], 0
    for size, *group in zip(sizes, *(part.split(sizes) for part in ordered), strict=True):
        if size == 1:
            alone.append(start)
        else:
            kept.append(nms(*group, threshold).add_(start))
        start += size
    survivors = order[torch.cat([*kept, order.new_tensor(alone)])].sort().values
    return survivors[scores[survivors].argsort(descending=True, stable=True)]


def best_by_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, count: int
) -> Tensor:
    """The first `count` of `grouped_nms`, which are often found among a few of the best boxes.

    A box falls to better ones alone, so what survives among the best survives among all. Looks at
    the values, again and again where boxes overlap much: for a CPU.
    """
    order = scores.argsort(descending=True, stable=True)
    tried = FEW
    while True:
        best = order[:tried]
        kept = best[grouped_nms(boxes[best], scores[best], groups[best], threshold)]
        if len(kept) >= count or tried >= len(order):
            return kept[:count]
        tried *= 4


def soft_nms(candidates: Candidates, *, sigma: float, count: int) -> Tensor:
    """(B, N): scores after Gaussian soft NMS, by image and label.

    Bodla 2017 (arXiv:1704.04503): the best box is taken, all others of its class are multiplied by
    exp(-iou^2 / sigma), and so on. What is not among the first `count` taken gets -1, as has what
    does not exist (a score below 0). All images of the batch together, without looking at the
    values, so a GPU waits for nothing.
    """
    boxes, scores, labels = candidates.boxes, candidates.scores, candidates.labels
    batch = torch.arange(len(scores), device=scores.device)
    alike = labels[:, :, None] == labels[:, None]
    kept = torch.stack([torch.exp(-(box_ops.iou(b, b) ** 2) / sigma) for b in boxes])  # (B, N, N)
    kept = torch.where(alike, kept, 1.0)
    left, out = scores.clone(), torch.full_like(scores, -1.0)
    for _ in range(min(count, scores.shape[1])):
        value, best = left.max(1)
        out[batch, best] = torch.where(value < 0, out[batch, best], value)
        left = left * kept[batch, best]
        left[batch, best] = -1.0
    return out


def select(
    candidates: Candidates,
    *,
    score_threshold: float,
    nms_threshold: float | None,
    max_detections: int,
) -> list[Detections]:
    """What is detected of a whole batch's candidates, clipped already.

    Candidates with score > score_threshold go on; NMS (None: none) suppresses within one image and
    label; the best `max_detections` of each image are returned, best first. One host
    synchronisation on a GPU.
    """
    boxes, scores, labels = candidates.boxes, candidates.scores, candidates.labels
    batch = len(scores)
    keep = (scores > score_threshold) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    image = torch.arange(batch, device=scores.device)[:, None].expand_as(scores)[keep]
    boxes, scores, labels = boxes[keep].float(), scores[keep].float(), labels[keep]
    if nms_threshold is None:
        order = scores.argsort(descending=True, stable=True)
    elif not scores.is_cuda:
        sizes = keep.sum(1).tolist()
        images = zip(*(part.split(sizes) for part in (boxes, scores, labels)), strict=True)
        starts = accumulate([0, *sizes[:-1]])
        order = torch.cat(
            [
                best_by_nms(*candidates, nms_threshold, max_detections).add_(start)
                for candidates, start in zip(images, starts, strict=True)
            ]
        )
    else:
        classes = labels.max() + 1 if len(labels) else 1
        order = grouped_nms(boxes, scores, image * classes + labels, nms_threshold)
    order = order[image[order].argsort(stable=True)]
    counts = torch.bincount(image[order], minlength=batch).tolist()
    return [
        Detections(boxes[o], scores[o], labels[o])
        for o in (part[:max_detections] for part in order.split(counts))
    ]
