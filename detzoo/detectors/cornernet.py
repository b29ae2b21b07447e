"""CornerNet: Detecting Objects as Paired Keypoints (Law 2018, arXiv:1808.01244).

An object is its top-left and its bottom-right corner. Each kind of corner has a heatmap per class,
an offset within the cell, and an embedding; two corners belong to one object if their embeddings
agree. No anchors and no boxes to regress.

Departures. A bottom-right corner belongs to the last cell that its box covers (the published code
takes the next cell if the corner is on a border, which does not exist at an image's edge), so that
every corner is inside its image. Losses are means over the objects of the batch, where the code
sums each image's mean; the push follows equation 5. Peaks are those of the image, without its
mirror image (section 4.2). A cell that a crowd box touches is a negative for no class. The best 300
pairs are kept, since with the code's 1000 soft NMS takes most of the time (`max_pairs`). The three
heads' 3x3 convolutions are one (nn.point_head).

Shape letters: B images, K classes, E embedding, H W the output map at stride 4, N objects of the
whole batch, P peaks a corner and image. A dimension of 2 for the corners: 0 top-left,
1 bottom-right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn.backbones import Backbone
from detzoo.nn.corner import Corner
from detzoo.nn.hourglass import Hourglass
from detzoo.nn.point_head import EveryStack
from detzoo.nn.stride4 import STRIDE, to_stride_4
from detzoo.ops import gaussian
from detzoo.ops.assign import flat_boxes
from detzoo.ops.constants import constant
from detzoo.ops.losses import normaliser, penalty_reduced_focal, smooth_l1
from detzoo.ops.nms import soft_nms
from detzoo.ops.peaks import at_cells, top_peaks, without_padding
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, Target, pad_targets

PENALTIES = ("size", "fixed", "off")
SCORES = ("mean", "geometric")
SUPPRESSIONS = ("soft", "hard", "none")
FIXED_RADIUS = 2.5  # table 2, in output pixels


class Outputs(NamedTuple):
    heatmap: Tensor  # (B, 2, K, H, W) logits
    embedding: Tensor  # (B, 2, E, H, W)
    offset: Tensor  # (B, 2, 2, H, W) x and y of the corner within its cell


class Assignment(NamedTuple):
    heatmap: Tensor  # (B, 2, K, H, W) float32 in [0, 1], 1 at the corners' cells
    negative: Tensor  # (B, 1, 1, H, W) bool: False where a crowd box is
    image: Tensor  # (N,) int64
    cell: Tensor  # (N, 2, 2) int64, x and y of each corner
    offset: Tensor  # (N, 2, 2) in [0, 1]
    weight: Tensor  # (N,) float32: 1, and 0 for a crowd box


class Corners(NamedTuple):
    """The P most likely corners of one kind in every image."""

    score: Tensor  # (B, P)
    exists: Tensor  # (B, P) bool: an image may have fewer
    label: Tensor  # (B, P) int64
    embedding: Tensor  # (B, E, P)
    point: Tensor  # (B, 2, P) x and y, in output pixels


class Head(nn.Module):
    """Both corners; without offsets a corner is the middle of its cell."""

    def __init__(self, *arguments: int | bool) -> None:
        super().__init__()
        self.corners = nn.ModuleList(Corner(*arguments, bottom_right=b) for b in (False, True))

    def forward(self, x: Tensor) -> Outputs:
        parts = zip(*(corner(x) for corner in self.corners), strict=True)
        heatmap, embedding, *offset = (torch.stack(part, 1) for part in parts)
        offset = offset or [torch.full_like(heatmap[:, :, :1], 0.5).expand(-1, -1, 2, -1, -1)]
        return Outputs(heatmap, embedding, *offset)


class CornerNet(Detector):
    """upsample: `topdown` or `deconv`, to bring a backbone's maps to stride 4; the Hourglass needs
    neither. upsample_channels: of its maps. upsample_by: how maps are enlarged
    (nn.upsample.UPSAMPLES), by default the neck's own. head_channels: of every head's 3x3.
    corner_pooling: without it (table 1) both its branches are added without pooling. penalty: what
    is near a corner costs less, within a radius by the object's `size` (see ops.gaussian.radius),
    within a `fixed` one, or `off` (table 2). embedding: its dimension; distances are Euclidean.
    pair_score: of two corners' scores, `mean` or `geometric` mean. nms: `soft`, `hard` or `none`,
    within a class.
    """

    def __init__(
        self,
        *,
        backbone: Backbone | Hourglass,
        num_classes: int,
        upsample: str = "topdown",
        upsample_channels: int | Sequence[int] | None = None,
        upsample_by: str | None = None,
        head_channels: int = 256,
        corner_pooling: bool = True,
        penalty: str = "size",
        overlap: float = 0.3,  # section 3.2
        radius: str = "published",
        focal_alpha: float = 2.0,  # section 3.2
        focal_beta: float = 4.0,
        offsets: bool = True,
        offset_weight: float = 1.0,  # section 4.1
        embedding: int = 1,  # section 3.3
        pull_weight: float = 0.1,  # section 4.1
        push_weight: float = 0.1,
        margin: float = 1.0,  # Delta, section 3.3
        top_k: int = 100,  # a corner, section 4.2
        max_distance: float = 0.5,  # of embeddings, section 4.2
        pair_score: str = "mean",  # section 4.2
        max_pairs: int = 300,  # the code keeps 1000, but soft NMS costs by their square
        nms: str = "soft",
        nms_sigma: float = 0.5,  # of soft NMS, Bodla 2017
        nms_threshold: float = 0.5,  # of hard NMS
        score_threshold: float = 0.001,
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=backbone.strides[-1], backbone=backbone)
        check_choice("detector.penalty", penalty, PENALTIES)
        check_choice("detector.pair_score", pair_score, SCORES)
        check_choice("detector.nms", nms, SUPPRESSIONS)
        gaussian.radius(torch.ones(2), overlap, radius)  # raises now, not after the first batch
        self.neck = to_stride_4(
            upsample,
            backbone.channels,
            backbone.strides,
            upsample_channels,
            upsample_by=upsample_by,
        )
        width = self.neck.channels
        self.head = EveryStack(
            Head(width, head_channels, num_classes, embedding, offsets, corner_pooling)
            for _ in range(getattr(backbone, "stacks", 1))
        )
        self.penalty, self.overlap, self.radius = penalty, overlap, radius
        self.focal_alpha, self.focal_beta = focal_alpha, focal_beta
        self.offsets, self.offset_weight = offsets, offset_weight
        self.pull_weight, self.push_weight, self.margin = pull_weight, push_weight, margin
        self.top_k, self.max_distance = top_k, max_distance
        self.pair_score, self.max_pairs = pair_score, max_pairs
        self.nms, self.nms_sigma = nms, nms_sigma
        self.nms_threshold = nms_threshold if nms == "hard" else None
        self.score_threshold, self.max_detections = score_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        maps = self.neck(self.backbone(self.normalise(images)))
        return self.head(maps, every=targets is not None)

    @torch.no_grad()
    def assign(self, targets: Sequence[Target], shape: tuple[int, int]) -> Assignment:
        """Targets for a map of `shape` (H, W), drawn for all images at once on their device."""
        boxes, labels, crowd, image = flat_boxes(pad_targets(targets))
        boxes, batch = boxes / STRIDE, len(targets)
        corner = boxes.view(-1, 2, 2)  # (N, corner, x and y)
        limit = constant((shape[1] - 1, shape[0] - 1), boxes.device, torch.int64)
        cell = torch.stack([corner[:, 0].floor(), corner[:, 1].ceil() - 1], 1).long()
        cell = cell.clamp(min=0).minimum(limit)
        radii = self.radii(corner[:, 1] - corner[:, 0]).masked_fill(crowd, -1.0)
        planes = image[:, None] * 2 + torch.arange(2, device=boxes.device)  # (N, 2)
        planes = planes * self.num_classes + labels[:, None]
        heatmap = gaussian.heatmaps(
            cell.flatten(0, 1),
            radii.repeat_interleave(2),
            planes.flatten(),
            batch * 2 * self.num_classes,
            shape,
        )
        crowded = gaussian.cells_in_boxes(boxes * crowd[:, None], image, batch, shape)
        return Assignment(
            heatmap.view(batch, 2, self.num_classes, *shape),
            ~crowded[:, None, None],
            image,
            cell,
            corner - cell,
            (~crowd).float(),
        )

    def radii(self, sizes: Tensor) -> Tensor:
        """(N, 2) -> (N,): how far the penalty is reduced, in output pixels (section 3.2)."""
        if self.penalty == "size":
            return gaussian.radius(sizes, self.overlap, self.radius)
        return torch.full_like(sizes[:, 0], FIXED_RADIUS if self.penalty == "fixed" else 0.0)

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        logits = outputs.heatmap
        stacks = len(logits) // len(targets)  # see EveryStack
        truth = self.assign(pad_targets(targets).repeat(stacks), logits.shape[-2:])
        objects = normaliser(truth.weight.sum())
        focal = penalty_reduced_focal(
            logits, truth.heatmap, alpha=self.focal_alpha, beta=self.focal_beta
        )
        counted = truth.negative | (truth.heatmap == 1)

        which = torch.arange(2, device=logits.device)  # (2,), broadcast with (N, 1) and (N, 2)
        at = (truth.image[:, None], which, slice(None), truth.cell[..., 1], truth.cell[..., 0])
        pull, push = self.grouping(outputs.embedding[at].float(), truth)  # of (N, 2, E)
        losses = {
            "heatmap": (focal * counted).sum() / objects,
            "pull": self.pull_weight * pull,
            "push": self.push_weight * push,
        }
        if self.offsets:
            offset = smooth_l1(outputs.offset[at], truth.offset, 1.0).sum((1, 2)) * truth.weight
            losses["offset"] = self.offset_weight * offset.sum() / objects
        return losses

    def grouping(self, embedding: Tensor, truth: Assignment) -> tuple[Tensor, Tensor]:
        """(N, 2, E) of the corners -> pull and push, scalars (equations 4 and 5)."""
        mean = embedding.mean(1)  # (N, E), e_k
        pull = (embedding - mean[:, None]).square().sum((1, 2)) * truth.weight
        others = (truth.image[:, None] == truth.image) * truth.weight[:, None] * truth.weight
        others = others * (1 - torch.eye(len(others), device=others.device))  # (N, N)
        distance = torch.linalg.vector_norm(mean[:, None] - mean, dim=2)
        push = F.relu(self.margin - distance) * others
        objects = normaliser(truth.weight.sum())
        return pull.sum() / objects, push.sum() / normaliser(others.sum())

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        """The best pairs of a top-left and a bottom-right corner (section 4.2)."""
        outputs = Outputs(*(x[-len(sizes) :].float() for x in outputs))  # the last stack's
        first, second = self.corners(outputs, sizes)
        distance = first.embedding[..., None] - second.embedding[:, :, None]  # (B, E, P, P)
        fits = torch.linalg.vector_norm(distance, dim=1) <= self.max_distance  # (B, P, P)
        fits &= first.label[..., None] == second.label[:, None]
        fits &= (first.point[..., None] < second.point[:, :, None]).all(1)
        fits &= first.exists[..., None] & second.exists[:, None]
        p, q = first.score[..., None], second.score[:, None]
        if self.pair_score == "mean":
            score = (p + q) / 2
        else:  # the root of 0 has no gradient
            score = torch.where(fits, p * q, 1.0).sqrt()
        score = torch.where(fits, score, -1.0).flatten(1)  # (B, P * P)
        score, pair = score.topk(min(self.max_pairs, score.shape[1]), dim=1)
        i, j = pair // fits.shape[2], pair % fits.shape[2]  # (B, max_pairs) into P
        start = first.point.gather(2, i[:, None].expand(-1, 2, -1))  # (B, 2, max_pairs)
        end = second.point.gather(2, j[:, None].expand(-1, 2, -1))
        return Candidates(torch.cat([start, end], 1).mT * STRIDE, score, first.label.gather(1, i))

    def corners(
        self, outputs: Outputs, sizes: Sequence[tuple[int, int]]
    ) -> tuple[Corners, Corners]:
        """The top-left and the bottom-right corners, `top_k` of each image."""
        heat, embedding, offset = outputs
        heat = without_padding(heat, sizes, STRIDE).flatten(0, 1)  # (2B, K, H, W)
        logit, label, cell = top_peaks(heat, self.top_k)  # (2B, P) each
        width = heat.shape[-1]
        point = torch.stack([cell % width, cell // width], 1)  # (2B, 2, P)
        point = point + at_cells(offset.flatten(0, 1), cell)
        found = Corners(
            logit.sigmoid(),
            logit > -torch.inf,
            label,
            at_cells(embedding.flatten(0, 1), cell),
            point,
        )
        first, second = zip(*(x.unflatten(0, (-1, 2)).unbind(1) for x in found), strict=True)
        return Corners(*first), Corners(*second)

    def rescore(self, candidates: Candidates) -> Candidates:
        """Soft NMS (section 4.2)."""
        if self.nms != "soft":
            return candidates
        scores = soft_nms(
            candidates,
            sigma=self.nms_sigma,
            count=self.max_detections,
            threshold=self.score_threshold,
        )
        return replace(candidates, scores=scores)

    def heatmaps(self, outputs: Outputs) -> dict[str, Tensor]:
        heat = outputs.heatmap.float().sigmoid().amax(2)  # (B, 2, H, W)
        return {"top-left corners": heat[:, 0], "bottom-right corners": heat[:, 1]}
