"""Faster CPU forms of torch's functions, with the same results.

Each names its plain form, which it is on a GPU; the suite holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from detzoo.ops import boxes as box_ops

GROUP = 64
FEW = 512  # boxes; comparing all of them takes less than calling NMS for every group
CHUNK = 2**18  # numbers at a time, a megabyte, which stays in a CPU's cache


def topk(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(B, N) -> float32 values and indices (B, count): `values.float().topk(count, dim=1)`.

    In two steps where N is large: the largest `count` are in the `count` groups of GROUP whose
    maxima are largest, or among the remainder at the end. A CPU sorts a GROUPth as much.
    """
    groups = values.shape[1] // GROUP
    if values.is_cuda or groups <= count:
        return values.float().topk(count, dim=1)  # a CPU is slow at sorting halves
    whole = groups * GROUP
    maxima = values[:, :whole].unflatten(1, (groups, GROUP)).amax(2).float()
    best = maxima.topk(count, dim=1).indices[..., None] * GROUP
    index = (best + torch.arange(GROUP, device=values.device)).flatten(1)
    rest = torch.arange(whole, values.shape[1], device=values.device)
    index = torch.cat([index, rest.expand(len(values), -1)], 1)
    values, order = values.gather(1, index).float().topk(count, dim=1)
    return values, index.gather(1, order)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, of a function whose rows (dimension 0) have nothing to do with one another."""
    row = x[0].numel() if len(x) else 1
    if x.is_cuda or x.numel() <= CHUNK:
        return function(x)
    return torch.cat([function(part) for part in x.split(max(1, CHUNK // row))])


def self_iou(boxes: Tensor) -> Tensor:
    """(B, N, 4) -> (B, N, N): `iou(boxes, boxes)`; on a CPU image by image, in its cache."""
    if boxes.is_cuda:
        return box_ops.iou(boxes, boxes)
    return torch.cat([box_ops.iou(one, one) for one in boxes.split(1)])


def max_pool2d(x: Tensor) -> Tensor:
    """(..., H, W) -> (..., H, W): `F.max_pool2d(x, 3, stride=1, padding=1)`.

    Made of shifted maxima, which a CPU does 10 times faster.
    """
    if x.is_cuda:
        return F.max_pool2d(x, 3, stride=1, padding=1)
    padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    height, width = x.shape[-2:]
    rows = torch.maximum(padded[..., :height, :], padded[..., 2:, :])
    rows = torch.maximum(rows, padded[..., 1:-1, :])  # (..., H, W + 2)
    return torch.maximum(torch.maximum(rows[..., :width], rows[..., 2:]), rows[..., 1:-1])


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) of float32 to its last digits: `F.softplus(x)`, as 2 atanh(e / (2 + e)).

    F.softplus and F.logsigmoid take a CPU's log1p, which on some is ten times as slow as its atanh.
    """
    if x.is_cuda:
        return F.softplus(x)
    small = torch.exp(-x.abs())
    return x.relu() + 2 * torch.atanh(small / (2 + small))


def at_least_two_columns(x: Tensor) -> Tensor:
    """(B, C, H, W): `x`, but a map one cell wide gets a second column of zeros.

    That equals a padding. oneDNN's bfloat16 gradient of a 3x3's weights reads uninitialised memory
    there (seen in torch 2.14.1 on AVX512-BF16), so that a training ends in NaN now and then.
    """
    return F.pad(x, (0, 1)) if x.shape[-1] == 1 and not x.is_cuda else x


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Indices that survive NMS among boxes of one group, best score first.

    In one call with every group shifted to a separate place, in float64, because after a shift of a
    million pixels float32 resolves an eighth of a pixel and NMS decides differently; group by group
    for many boxes, since NMS on a CPU compares all pairs.
    """
    if len(boxes) == 0:
        return groups.new_zeros(0)
    boxes = boxes.double()
    if len(boxes) <= FEW:
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
    """`grouped_nms(...)[:count]`, which are often found among a few of the best boxes.

    Only better boxes suppress a box, so a survivor among the best survives among all. Synchronises
    with the values, repeatedly where boxes overlap a lot.
    """
    order = scores.argsort(descending=True, stable=True)
    tried = max(FEW, count)
    while True:
        best = order[:tried]
        kept = best[grouped_nms(boxes[best], scores[best], groups[best], threshold)]
        if len(kept) >= count or tried >= len(order):
            return kept[:count]
        tried *= 4
