"""Non-maximum suppression for a whole batch, hard and soft, without waiting for each image.

Shape letters: B rows (images, or levels of images), N candidates of each, T of them at a time, C
survivors requested.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from detzoo.ops import boxes as box_ops
from detzoo.ops import fast
from detzoo.types import Candidates

BLOCK = 1024  # candidates of a row that are compared at once
PAIRS = 2**24  # of boxes at a time, which bounds the memory
ROUNDS = 16  # between two checks whether it is done, each of which waits for the GPU


def nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    exist: Tensor,
    threshold: float,
    count: int,
) -> tuple[Tensor, Tensor]:
    """Indices (B, C) of the first `count` survivors of every row, best first, and (B, C) which are.

    boxes (B, N, 4), scores, groups (int64) and exist (bool) (B, N). Greedy NMS: a box is suppressed
    by a better one of its row and group with an IoU above `threshold`. C = min(count, N).
    """
    count = min(count, scores.shape[1])
    compute = nms_in_blocks if boxes.is_cuda else nms_row_by_row
    return compute(boxes, scores, groups, exist, threshold, count)


def nms_row_by_row(
    boxes: Tensor, scores: Tensor, groups: Tensor, exist: Tensor, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """`nms` for a CPU, where reading values costs nothing."""
    index = groups.new_zeros(len(boxes), count)
    kept = torch.zeros_like(index, dtype=torch.bool)
    for row in range(len(boxes)):
        own = exist[row].nonzero().squeeze(1)
        rest = (boxes[row, own], scores[row, own], groups[row, own])
        best = own[fast.best_by_nms(*rest, threshold, count)]
        index[row, : len(best)] = best
        kept[row, : len(best)] = True
    return index, kept


def nms_in_blocks(
    boxes: Tensor, scores: Tensor, groups: Tensor, exist: Tensor, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """`nms` for a GPU: all rows together, T candidates at a time, best first.

    A block's candidates are suppressed by the survivors before it, at most `count`, and by one
    another; so a row costs T^2 + T count comparisons per block, and mostly there is one block.
    torchvision's kernel compares all pairs, those of different images and labels too.
    """
    batch, number = scores.shape
    block = max(BLOCK, count)
    # what does not exist comes last
    order = scores.masked_fill(~exist, -torch.inf).argsort(dim=1, descending=True, stable=True)
    boxes = boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    groups, exist = groups.gather(1, order), exist.gather(1, order)

    places = order.new_zeros(batch, count + 1)  # of survivors; the last is for those too many
    taken = order.new_zeros(batch, 1)
    slots = torch.arange(count, device=order.device)
    for start in range(0, number, block):
        part = slice(start, start + block)
        alive = exist[:, part]
        if start:
            survivors = places[:, :count]
            best = boxes.gather(1, survivors[..., None].expand(-1, -1, 4))
            falls = overlapping(
                best, boxes[:, part], groups.gather(1, survivors), groups[:, part], threshold
            )
            alive = alive & ~(falls & (slots < taken)[..., None]).any(1)
        own, group = boxes[:, part], groups[:, part]
        falls = overlapping(own, own, group, group, threshold).triu(1)  # [i, j]: i suppresses j
        keep = alive
        rest = exist[:, start + block : start + block + 1]
        while True:
            before, keep = suppress_block(falls, alive, keep)
            rank = taken + keep.cumsum(1)
            more = (rest & (rank[:, -1:] < count)).any()
            changing, more = torch.stack([(before != keep).any(), more]).tolist()
            if not changing:
                break
        slot = torch.where(keep & (rank <= count), rank - 1, count)
        here = torch.arange(start, start + keep.shape[1], device=order.device).expand_as(slot)
        places.scatter_(1, slot, here)
        taken = rank[:, -1:].clamp(max=count)
        if not more:
            break
    return order.gather(1, places[:, :count]), slots < taken


def suppress_block(falls: Tensor, alive: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, T), (B, T), (B, T) bool -> (B, T) bool twice: survivors before the last round, after.

    A box survives if no better survivor overlaps it. Evaluated for all boxes at once, repeatedly,
    this is right for the first box, then for all that only it can suppress, and so on, until
    nothing changes: after as many rounds as the longest chain of suppressions.
    """
    before = keep
    for _ in range(ROUNDS):
        before, keep = keep, alive & ~(falls & keep[..., None]).any(1)
    return before, keep


def overlapping(
    a: Tensor, b: Tensor, a_groups: Tensor, b_groups: Tensor, threshold: float
) -> Tensor:
    """(B, N, 4), (B, M, 4), (B, N), (B, M) -> (B, N, M) bool: an IoU above it, and of one group."""

    def chunks() -> Iterator[Tensor]:
        rows = max(1, PAIRS // max(1, a.shape[1] * b.shape[1]))
        parts = (x.split(rows) for x in (a, b, a_groups, b_groups))
        for one, other, own, others in zip(*parts, strict=True):
            yield (box_ops.iou(one, other) > threshold) & (own[..., None] == others[:, None])

    return torch.cat(list(chunks()))


def soft_nms(candidates: Candidates, *, sigma: float, count: int, threshold: float) -> Tensor:
    """(B, N): scores after Gaussian soft NMS, by image and label.

    Bodla 2017 (arXiv:1704.04503): the best box is taken, all others of its class are multiplied by
    exp(-iou^2 / sigma), and so on. A box that is not among the first `count` taken, or is at most
    `threshold` when its turn comes, gets -1, as has what does not exist (a score below 0).

    Boxes are taken one after the other, so a GPU would be given some kernels for each; it computes
    the overlaps of all pairs, which are copied once, and the loop runs on the CPU.
    """
    boxes, scores, labels = candidates.boxes, candidates.scores, candidates.labels
    alike = labels[:, :, None] == labels[:, None]
    square = fast.self_iou(boxes).square() * alike  # (B, N, N)
    table = torch.cat([torch.exp(square / -sigma), scores[..., None]], 2).cpu()  # (B, N, N + 1)
    decay, left = table[..., :-1], table[..., -1].clone()
    batch, out = torch.arange(len(left)), torch.full_like(left, -1.0)
    for _ in range(min(count, left.shape[1])):
        value, best = left.max(1)
        out[batch, best] = torch.where(value > threshold, value, out[batch, best])
        left = left * decay[batch, best]
        left[batch, best] = -1.0
    return out.to(scores.device, non_blocking=True)
