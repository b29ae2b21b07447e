"""The second stage on regions: sampling, losses, candidates.

R-CNN, Fast R-CNN and Faster R-CNN share it. Shape letters: B images, K classes, R regions of all
images, R_b of one image, P the most regions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import IGNORE, match, sample
from detzoo.ops.constants import constant
from detzoo.ops.losses import normaliser, smooth_l1
from detzoo.ops.select import top_candidates
from detzoo.types import Candidates, Target, pad_targets

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # deltas over their standard deviations, as Fast R-CNN's code


def with_image(rois: Sequence[Tensor]) -> Tensor:
    """Per image (R_b, 4) -> (R, 5): the image's index, then the box."""
    boxes = torch.cat(list(rois))
    counts = constant([len(r) for r in rois], boxes.device, torch.int64)
    image = torch.arange(len(rois), device=boxes.device)
    image = image.repeat_interleave(counts, output_size=len(boxes))
    return torch.cat([image[:, None].to(boxes.dtype), boxes], 1)


def pad_regions(rois: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Per image (R_b, 4) -> (B, P, 4) and (B, P) bool: which of them exist."""
    regions = pad_sequence(list(rois), batch_first=True)
    slots = torch.arange(regions.shape[1], device=regions.device)
    counts = constant([len(r) for r in rois], regions.device, torch.int64)
    return regions, slots < counts[:, None]


def sample_regions(
    proposals: Sequence[Tensor],
    targets: Sequence[Target],
    *,
    num_classes: int,
    positive: float,
    background: float = 0.0,
    size: int,
    positive_fraction: float,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Regions to train on: per image (R_b, 4), labels (R,) in [0, K], their objects (R, 4).

    A region is a positive from an IoU of `positive` on and background (K) between `background` and
    that; of each image at most `size` are drawn, `positive_fraction` of them positives. The true
    boxes join the proposals, so that there are always positives. A region has the gradient of its
    proposal, its training target has none. One host synchronisation on a GPU, for the number of
    regions of every image.
    """
    truth = pad_targets(targets)
    regions, exist = pad_regions(proposals)
    regions = torch.cat([regions, truth.boxes], 1)  # (B, P + M, 4)
    exist = torch.cat([exist, truth.single], 1)
    with torch.no_grad():
        matched = match(regions, truth, positive=positive, negative=positive, background=background)
        matched = torch.where(exist, matched, IGNORE)
        index, drawn = sample(matched, size, positive_fraction)  # (B, S)
    matched, regions = matched.gather(1, index), _gather(regions, index)
    mine = matched.clamp(min=0)
    labels = torch.where(matched >= 0, truth.labels.gather(1, mine), num_classes)
    boxes = torch.where(matched[..., None] >= 0, _gather(truth.boxes, mine), regions.detach())

    counts = drawn.sum(1).tolist()
    order = (~drawn).flatten().to(torch.uint8).argsort(stable=True)[: sum(counts)]  # drawn first
    regions, labels, boxes = (x.flatten(0, 1)[order] for x in (regions, labels, boxes))
    return list(regions.split(counts)), labels, boxes


def _gather(boxes: Tensor, index: Tensor) -> Tensor:
    """(B, N, 4), (B, S) -> (B, S, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))


def region_losses(
    scores: Tensor,
    deltas: Tensor,
    rois: Sequence[Tensor],
    labels: Tensor,
    boxes: Tensor,
    beta: float,
) -> dict[str, Tensor]:
    """1504.08083, equation 1, lambda 1, both terms over the number of sampled regions.

    scores: (R, K + 1) logits, background last. deltas: (R, K, 4), those of a region's class count.
    The rest as `sample_regions` gives it.
    """
    count = normaliser(torch.full((), len(labels), device=labels.device))
    positive = (labels < deltas.shape[1])[:, None]  # (R, 1)
    regions = torch.arange(len(labels), device=labels.device)
    found = deltas[regions, labels.clamp(max=deltas.shape[1] - 1)]  # (R, 4)
    wanted = box_ops.encode(torch.cat(list(rois)).detach(), boxes, WEIGHTS)
    wanted = torch.where(positive, wanted, 0.0)  # a region without sides has no deltas
    return {
        "class": F.cross_entropy(scores.float(), labels, reduction="sum") / count,
        "box": (smooth_l1(found, wanted, beta) * positive).sum() / count,
    }


def region_candidates(
    scores: Tensor, deltas: Tensor, rois: Sequence[Tensor], top_k: int
) -> Candidates:
    """Every class of every region is a candidate; the best `top_k` of an image reach NMS.

    scores: (R, K + 1) logits, background last. deltas: (R, K, 4). rois: per image (R_b, 4).
    """
    counts = [len(r) for r in rois]
    regions, exist = pad_regions(rois)
    deltas = pad_sequence(deltas.split(counts), batch_first=True)  # (B, P, K, 4)
    scores = scores.float().softmax(1)[:, :-1]
    scores = pad_sequence(scores.split(counts), batch_first=True)  # (B, P, K)
    scores = torch.where(exist[..., None], scores, -1.0)
    scores, index, labels = top_candidates(scores, top_k)  # (B, top_k)
    image = torch.arange(len(counts), device=scores.device)[:, None]
    boxes = box_ops.decode(regions[image, index], deltas[image, index, labels], WEIGHTS)
    return Candidates(boxes, scores, labels)
