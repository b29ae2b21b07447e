"""Assignment of reference boxes to objects, and sampling of those that are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from detzoo.ops import boxes as box_ops
from detzoo.types import PaddedTargets

BACKGROUND = -1  # matched to nothing: a negative
IGNORE = -2  # neither a positive nor a negative
PAIRS = 2**25  # of objects and references at a time, which bounds the memory


def flat_boxes(truth: PaddedTargets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The boxes of a batch in one row: boxes (N, 4), labels, crowd and image, each (N,).

    image is int64, the index of each box's image.
    """
    rows = (truth.boxes, truth.labels, truth.crowd)
    boxes, labels, crowd = (x.flatten(0, 1)[truth.places] for x in rows)
    return boxes, labels, crowd, truth.places // truth.valid.shape[1]


def match(
    references: Tensor,
    truth: PaddedTargets,
    *,
    positive: float,
    negative: float,
    background: float = 0.0,
    force: bool = False,
    crowd_cover: float = 0.5,
) -> Tensor:
    """(N, 4) or (B, N, 4) -> (B, N) int64: an index into M, BACKGROUND or IGNORE.

    IoU >= positive with the best object: that object. IoU < negative: background, unless it is
    below `background`. Else: ignored.
    force: a reference that is some object's best (ties included) is a positive too, whatever the
    IoU, and is matched to its own best object: if two objects share their best reference, the one
    with the higher IoU gets it, and the other may have none, as in the published code (1506.01497,
    section 3.1.2, rule i). A crowd box is never matched; a reference that would be background and
    has at least `crowd_cover` of its area inside one is ignored.
    """
    batch, objects = truth.valid.shape
    references = references.expand(batch, -1, -1)
    images = max(1, PAIRS // max(1, objects * references.shape[1]))  # at a time
    parts = (references, truth.boxes, truth.single, truth.valid & truth.crowd)
    chunks = zip(*(part.split(images) for part in parts), strict=True)
    thresholds = positive, negative, background
    return torch.cat([_match(*chunk, *thresholds, force, crowd_cover) for chunk in chunks])


def _match(
    references: Tensor,
    boxes: Tensor,
    single: Tensor,
    crowd: Tensor,
    positive: float,
    negative: float,
    background: float,
    force: bool,
    crowd_cover: float,
) -> Tensor:
    overlap = box_ops.intersection(boxes, references)  # (B, M, N)
    area = box_ops.area(references)[:, None]  # (B, 1, N)
    iou = box_ops.over_union(overlap, box_ops.area(boxes)[..., None], area) * single[..., None]
    best, index = iou.max(1)  # (B, N)
    hit = best >= positive
    if force:
        top = iou.amax(2, keepdim=True)
        hit = hit | ((iou == top) & (top > 0)).any(1)
    inside = (overlap >= crowd_cover * area) & (area > 0) & crowd[..., None]
    ignored = (best >= negative) | (best < background) | inside.any(1)
    return torch.where(hit, index, torch.where(ignored, IGNORE, BACKGROUND))


def slot_owners(slots: Tensor, valid: Tensor, count: int) -> Tensor:
    """(B, M) int64 slots in [0, count), (B, M) bool -> (B, count) int64: whose slot it is.

    An index into M, or BACKGROUND. Of several objects that claim one slot the last has it.
    """
    batch, objects = slots.shape
    owner = slots.new_full((batch, count + 1), BACKGROUND)
    index = torch.arange(objects, device=slots.device).expand(batch, -1)
    owner.scatter_reduce_(1, torch.where(valid, slots, count), index, "amax")
    return owner[:, :count]


def bipartite(iou: Tensor) -> Tensor:
    """(B, M, N) -> (B, N) int64: every object's own reference, an index into M or BACKGROUND.

    The pair with the largest IoU first, then the largest of the remaining ones, and so on
    (MultiBox, 1312.2249, as SSD's code does it): of two objects with one best reference the one
    with the higher IoU has it, and the other the best of the free ones. Pairs with an IoU of 0 do
    not count. Nothing waits for the host.
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


def inside_crowd(references: Tensor, truth: PaddedTargets, cover: float = 0.5) -> Tensor:
    """(N, 4) -> (B, N) bool: those with at least `cover` of their area inside a crowd box.

    Or each image's own references: (..., B, N, 4) -> (..., B, N).
    """
    inside = box_ops.covered(references, truth.boxes) >= cover  # (..., B, N, M)
    return (inside & truth.crowd[:, None]).any(-1)


def sample(matched: Tensor, size: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """(B, N) `match`'s answers -> (B, S) indices of a random minibatch, (B, S) bool: drawn.

    S = min(size, N). In each image at most `size * positive_fraction` positives come first;
    negatives fill up to `size` while there are any; the rest of S is not drawn.
    """
    positive, negative = matched >= 0, matched == BACKGROUND
    number = matched.shape[1]
    size, most = min(size, number), min(int(size * positive_fraction), number)
    lot = torch.rand(matched.shape, device=matched.device)
    positives = torch.where(positive, lot, -1.0).topk(most, dim=1).indices  # (B, most)
    negatives = torch.where(negative, lot, -1.0).topk(size, dim=1).indices  # (B, S)
    p = positive.sum(1, keepdim=True).clamp(max=most)  # (B, 1), how many are drawn
    n = negative.sum(1, keepdim=True).minimum(size - p)
    slot = torch.arange(size, device=matched.device)
    index = torch.cat([positives, negatives], 1)
    return index.gather(1, torch.where(slot < p, slot, slot - p + most)), slot < p + n
