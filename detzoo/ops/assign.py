"""Which reference box answers for which object, and which of them are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    background: float = 0.0,
    force: bool = False,
    crowd_cover: float = 0.5,
) -> Tensor:
    """(N,) int64: for each reference box an index into `target.boxes`, BACKGROUND or IGNORE.

    IoU >= positive with the best object: that object. IoU < negative: background, unless it is
    below `background`. Else: ignored.
    force: a reference that is some object's best (all that tie are) is a positive too, whatever the
    IoU, and takes its own best object. That is its object, unless another one covers it better: of
    two objects with one best reference the closer one has it, and the other may go untrained, as in
    the published code (1506.01497, section 3.1.2, rule i). A crowd box is nobody's object; a
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


class Truth(NamedTuple):
    """The targets of a batch as tensors of one shape, M the most boxes of an image, at least 1."""

    boxes: Tensor  # (B, M, 4) float32, zeros where there is none
    labels: Tensor  # (B, M) int64
    single: Tensor  # (B, M) bool: an object
    crowd: Tensor  # (B, M) bool: a crowd or difficult box


def pad(targets: Sequence[Target]) -> Truth:
    """Targets of any lengths, side by side, so that a whole batch is assigned without a loop."""
    boxes = pad_sequence([t.boxes.float() for t in targets], batch_first=True)
    labels = pad_sequence([t.labels for t in targets], batch_first=True)
    crowd = pad_sequence([t.crowd for t in targets], batch_first=True)
    single = pad_sequence([~t.crowd for t in targets], batch_first=True)
    if boxes.shape[1] == 0:
        batch = len(targets)
        boxes, labels = boxes.new_zeros(batch, 1, 4), labels.new_zeros(batch, 1)
        crowd = single = crowd.new_zeros(batch, 1)
    return Truth(boxes, labels, single, crowd)


def claim(slots: Tensor, claims: Tensor, count: int) -> Tensor:
    """(B, M) int64 slots in [0, count), (B, M) bool -> (B, count) int64: whose slot it is.

    An index into M, or BACKGROUND. Of several objects that claim one slot the last has it.
    """
    batch, objects = slots.shape
    owner = slots.new_full((batch, count + 1), BACKGROUND)
    index = torch.arange(objects, device=slots.device).expand(batch, -1)
    owner.scatter_reduce_(1, torch.where(claims, slots, count), index, "amax")
    return owner[:, :count]


def bipartite(iou: Tensor) -> Tensor:
    """(B, M, N) -> (B, N) int64: every object's own reference, an index into M or BACKGROUND.

    The pair of the largest IoU first, then the largest of what is left, and so on (MultiBox,
    1312.2249, as SSD's code does it): of two objects with one best reference the closer one has it,
    and the other has its best of those that are free. Pairs with an IoU of 0 are none. Nothing
    waits for the host.
    """
    batch, objects, count = iou.shape
    # at most M - 1 of an object's references are taken by others, so M of them are enough
    kept, place = iou.topk(min(objects, count), dim=2)  # (B, M, k)
    image = torch.arange(batch, device=iou.device)
    owner = place.new_full((batch, count + 1), BACKGROUND)
    for _ in range(kept.shape[2]):
        best, index = kept.flatten(1).max(1)  # (B,)
        winner, taken = index // kept.shape[2], place.flatten(1)[image, index]
        owner[image, torch.where(best > 0, taken, count)] = winner
        kept[image, winner] = -1
        kept = torch.where(place == taken[:, None, None], -1, kept)
    return owner[:, :count]


def crowded(references: Tensor, truth: Truth, cover: float = 0.5) -> Tensor:
    """(N, 4) -> (B, N) bool: those with at least `cover` of their area inside a crowd box."""
    inside = box_ops.covered(references[None], truth.boxes) >= cover  # (B, N, M)
    return (inside & truth.crowd[:, None]).any(2)


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
