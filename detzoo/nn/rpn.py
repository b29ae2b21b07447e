"""A region proposal network (Ren 2015, arXiv:1506.01497, section 3.1): anchors, head and losses.

Shape letters: B images, A anchors a cell, N anchors in all, L maps, P anchors of a map that reach
NMS, R_b regions of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.nn.anchors import Anchors
from detzoo.nn.blocks import OutputConv
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import per_anchor
from detzoo.ops.assign import IGNORE, match, sample
from detzoo.ops.constants import constant
from detzoo.ops.losses import normaliser, smooth_l1
from detzoo.ops.nms import nms
from detzoo.ops.select import top_candidates
from detzoo.types import Target, pad_targets

SMALLEST = 1e-3  # pixels; proposals with shorter sides are dropped


class RPNOutputs(NamedTuple):
    objectness: Tensor  # (B, N) logits
    deltas: Tensor  # (B, N, 4)
    anchors: Tensor  # (N, 4)
    counts: tuple[int, ...]  # anchors of each map


class Sampling(NamedTuple):
    """Which anchors of an image are trained on."""

    positive: float  # IoU with an object from which an anchor is of it
    negative: float  # IoU with every object below which it is background
    batch: int  # anchors of an image
    positive_fraction: float  # of them, at most


class Suppression(NamedTuple):
    """Which anchors become proposals; the pairs are of training and of test."""

    pre_nms: tuple[int, int]  # of each map
    post_nms: tuple[int, int]  # of the image
    nms_threshold: float


class RPN(nn.Module):
    """A 3x3 convolution, then objectness and deltas for A anchors a cell (section 3.1).

    box_beta: smooth L1's. edge_anchors: whether anchors that cross the image's edge are trained on;
    without them (section 3.1.3) they are matched to no object either; if all of an image cross it,
    all are used.

    forward: maps [(B, C, h, w)], input size (H, W) -> RPNOutputs.
    """

    def __init__(
        self,
        channels: int,
        anchors: Anchors,
        sampling: Sampling,
        suppression: Suppression,
        box_beta: float,
        edge_anchors: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = OutputConv(channels, anchors.a_cell, 1)
        self.deltas = OutputConv(channels, anchors.a_cell * 4, 1)
        nn.init.kaiming_normal_(self.conv.weight)
        for layer in (self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)  # section 3.1.3
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.zeros_(layer.bias)
        self.anchors = anchors
        self.positive, self.negative, self.batch, self.positive_fraction = sampling
        self.pre_nms, self.post_nms, self.nms_threshold = suppression
        self.box_beta, self.edge_anchors = box_beta, edge_anchors

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> RPNOutputs:
        hidden = [self.conv(x).relu_() for x in maps]
        objectness = [self.objectness(x) for x in hidden]  # per map (B, A, h, w)
        deltas = [self.deltas(x) for x in hidden]  # per map (B, A * 4, h, w)
        return RPNOutputs(
            per_anchor(objectness, 1).squeeze(2),
            per_anchor(deltas, 4),
            self.anchors(maps, size),
            tuple(x[0].numel() for x in objectness),
        )

    def propose(
        self,
        outputs: RPNOutputs,
        sizes: Sequence[tuple[int, int]],
        training: bool,
        gradient: bool = False,
    ) -> list[Tensor]:
        """Per image (R_b, 4), best first: the best anchors of every map, moved, clipped, after NMS.

        gradient: the boxes have one, to the deltas; their selection never has.
        """
        index, exist = self.best(outputs, sizes, training)
        with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
            boxes = self.moved(outputs, index, sizes)
        counts = exist.sum(1).tolist()
        return [found[:count] for found, count in zip(boxes, counts, strict=True)]

    def moved(
        self, outputs: RPNOutputs, index: Tensor, sizes: Sequence[tuple[int, int]] | Tensor
    ) -> Tensor:
        """(B, P) of the anchors -> (B, P, 4): where their deltas take them, inside the images."""
        deltas = outputs.deltas.gather(1, index[..., None].expand(-1, -1, 4))
        return box_ops.clip(box_ops.decode(outputs.anchors[index], deltas), sizes)

    @torch.no_grad()
    def best(
        self,
        outputs: RPNOutputs,
        sizes: Sequence[tuple[int, int]] | Tensor,
        training: bool,
        suppress: Callable[..., tuple[Tensor, Tensor]] = nms,
    ) -> tuple[Tensor, Tensor]:
        """(B, up to post_nms) of the anchors, best first, and (B, ...) bool: which are proposals
        and not padding.

        Maps do not compete in NMS (1612.03144, section 4.1), so each image's maps are separate
        rows. suppress: an implementation of `nms`.
        """
        pre_nms, post_nms = (both[0 if training else 1] for both in (self.pre_nms, self.post_nms))
        widest = min(pre_nms, max(outputs.counts))
        scores, index, start = [], [], 0
        for logits in outputs.objectness.float().split(outputs.counts, 1):
            best, where, _ = top_candidates(logits[..., None], pre_nms)  # (B, up to P)
            missing = (0, widest - best.shape[1])
            scores.append(F.pad(best, missing, value=-torch.inf))
            index.append(F.pad(where + start, missing))
            start += logits.shape[1]
        score, chosen = torch.cat(scores, 1), torch.cat(index, 1)  # (B, L * P)
        boxes = self.moved(outputs, chosen, sizes)
        exist = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST).all(-1) & (score > -torch.inf)

        of_maps = (x.unflatten(1, (-1, widest)).flatten(0, 1) for x in (boxes, score, exist))
        rows, row_score, row_exist = of_maps  # (B * L, P, ...)
        one = torch.zeros_like(row_score, dtype=torch.int64)
        best, kept = suppress(rows, row_score, one, row_exist, self.nms_threshold, post_nms)
        last = torch.where(kept, best, widest)  # an extra slot for padding
        survives = row_exist.new_zeros(len(rows), widest + 1).scatter(1, last, True)
        survives = survives[:, :widest].reshape(exist.shape)
        order = score.masked_fill(~survives, -torch.inf).argsort(
            dim=1, descending=True, stable=True
        )
        order = order[:, :post_nms]  # (B, post_nms)
        return chosen.gather(1, order), survives.gather(1, order)

    @torch.no_grad()
    def assign(
        self,
        anchors: Tensor,
        targets: Sequence[Target],
        sizes: Sequence[tuple[int, int]] = (),
    ) -> Tensor:
        """(B, N): every anchor's object, BACKGROUND or IGNORE (section 3.1.2).

        sizes: the images' (height, width), which decide what crosses their edges.
        """
        rules = {"positive": self.positive, "negative": self.negative, "force": True}
        if self.edge_anchors or not sizes:
            return match(anchors, pad_targets(targets), **rules)
        corner = constant([(w, h, w, h) for h, w in sizes], anchors.device)[:, None]  # (B, 1, 4)
        inside = ((anchors >= 0) & (anchors <= corner)).all(-1)  # (B, N)
        inside |= ~inside.any(1, keepdim=True)
        anchors = torch.where(inside[..., None], anchors, 0.0)  # without area: never the best
        return torch.where(inside, match(anchors, pad_targets(targets), **rules), IGNORE)

    def losses(
        self,
        outputs: RPNOutputs,
        targets: Sequence[Target],
        sizes: Sequence[tuple[int, int]] = (),
    ) -> dict[str, Tensor]:
        """Equation 1, both terms over the number of sampled anchors. sizes: as `assign`."""
        matched = self.assign(outputs.anchors, targets, sizes)  # (B, N)
        index, drawn = sample(matched, self.batch, self.positive_fraction)  # (B, S)
        matched = matched.gather(1, index)
        positive = drawn & (matched >= 0)
        count = normaliser(drawn.sum())
        logits = outputs.objectness.gather(1, index).float()
        entropy = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")

        four = index[..., None].expand(-1, -1, 4)
        objects = matched.clamp(min=0)[..., None].expand(-1, -1, 4)
        boxes = pad_targets(targets).boxes.gather(1, objects)
        wanted = box_ops.encode(outputs.anchors[index], boxes)
        wanted = torch.where(positive[..., None], wanted, 0.0)  # a box without sides has no deltas
        box = smooth_l1(outputs.deltas.gather(1, four), wanted, self.box_beta)
        return {
            "rpn_objectness": (entropy * drawn).sum() / count,
            "rpn_box": (box * positive[..., None]).sum() / count,
        }
