"""Which reference box answers for which object, and which of them are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detzoo.ops import boxes as box_ops
from detzoo.types import Target

BACKGROUND = -1  # matched to nothing: a negative
IGNORE = -2  # neither a positive nor a negative


def gathered(targets: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The objects of a batch in one row: boxes (N, 4), labels, crowd and image, each (N,).

    image is int64, the index into `targets` of each object's image.
    """
    boxes = torch.cat([t.boxes for t in targets]).float()
    labels = torch.cat([t.labels for t in targets])
    crowd = torch.cat([t.crowd for t in targets])
    counts = torch.tensor([len(t.boxes) for t in targets], device=boxes.device)
    images = torch.arange(len(targets), device=boxes.device)
    return boxes, labels, crowd, images.repeat_interleave(counts, output_size=len(boxes))


def match(
    references: Tensor,
    target: Target,
    *,
    positive: float,
    negative: float,
    force: bool = False,
    crowd_cover: float = 0.5,
) -> Tensor:
    """(N,) int64: for each reference box an index into `target.boxes`, BACKGROUND or IGNORE.

    IoU >= positive with the best object: that object. IoU < negative: background. Between: ignored.
    force: an object's best references (all that tie) take their own best object, whatever the IoU,
    so that no object that touches a reference goes untrained. A crowd box is nobody's object; a
    reference that would be background and has at least `crowd_cover` of its area inside one is
    ignored.
    """
    matched = references.new_full((len(references),), BACKGROUND, dtype=torch.int64)
    single = (~target.crowd).nonzero().squeeze(1)
    if len(single):
        iou = box_ops.iou(target.boxes[single], references)  # (M, N)
        best, index = iou.max(0)
        matched = torch.where(best >= negative, IGNORE, matched)
        hit = best >= positive
        if force:
            top = iou.max(1, keepdim=True).values
            hit |= ((iou == top) & (top > 0)).any(0)
        matched = torch.where(hit, single[index], matched)
    if len(single) < len(target.boxes):
        cover = box_ops.covered(references, target.boxes[target.crowd]).max(1).values
        matched[(matched == BACKGROUND) & (cover >= crowd_cover)] = IGNORE
    return matched


def sample(matched: Tensor, size: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Indices of a random minibatch of (positives, negatives) among `match`'s answers.

    At most `size * positive_fraction` positives; negatives fill up to `size` while there are any.
    """
    positives = (matched >= 0).nonzero().squeeze(1)
    negatives = (matched == BACKGROUND).nonzero().squeeze(1)
    count = min(len(positives), int(size * positive_fraction))
    positives = _draw(positives, count)
    return positives, _draw(negatives, min(len(negatives), size - count))


def _draw(indices: Tensor, count: int) -> Tensor:
    if count == len(indices):
        return indices
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
