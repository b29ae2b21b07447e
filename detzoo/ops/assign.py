"""Which reference box answers for which object, and which of them are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from detzoo.ops import boxes as box_ops
from detzoo.types import Target

BACKGROUND = -1  # matched to nothing: a negative
IGNORE = -2  # neither a positive nor a negative


def match(
    references: Tensor,
    target: Target,
    *,
    positive: float,
    negative: float,
    background: float = 0.0,
    force: bool = False,
    crowd_cover: float = 0.5,
) -> Tensor:
    """(N,) int64: for each reference box an index into `target.boxes`, BACKGROUND or IGNORE.

    IoU >= positive with the best object: that object. IoU < negative: background, unless it is
    below `background`. Else: ignored.
    force: an object's best references (all that tie) take their own best object, whatever the IoU,
    so that no object that touches a reference goes untrained. A crowd box is nobody's object; a
    reference that would be background and has at least `crowd_cover` of its area inside one is
    ignored.
    """
    far = IGNORE if background > 0 else BACKGROUND
    matched = references.new_full((len(references),), far, dtype=torch.int64)
    single = (~target.crowd).nonzero().squeeze(1)
    if len(single):
        iou = box_ops.iou(target.boxes[single], references)  # (M, N)
        best, index = iou.max(0)
        matched = torch.where(best >= background, BACKGROUND, matched)
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
