"""FCOS: Fully Convolutional One-Stage Object Detection (Tian 2019, arXiv:1904.01355).

RetinaNet without anchors: every cell of a pyramid inside an object predicts the distances to the
object's four sides, and how central the cell is, so that cells near an edge, whose boxes are poor,
score low.

The defaults have the improvements of the paper's table 3: GIoU, positives near an object's centre
(`center_radius`), distances divided by the stride, and centre-ness on the box tower. Where we
depart: convolutions of the towers are initialised as RetinaNet's here, and a cell inside a crowd
box is a negative for no class.

Shape letters: B images, K classes, N cells of all levels, M objects of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import FPN, Anchors, Backbone
from detzoo.nn.blocks import OutputConv
from detzoo.nn.towers import conv_tower, initialise_head
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import per_anchor
from detzoo.ops.assign import BACKGROUND, IGNORE
from detzoo.ops.losses import normaliser, sigmoid_focal
from detzoo.ops.select import top_of_levels
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, PaddedTargets, Target, pad_targets

DISTANCES = ("exp", "relu")
BOX_LOSSES = ("giou", "iou")
TOWERS = ("box", "class")
SCORES = ("product", "geometric_mean")


class Outputs(NamedTuple):
    logits: Tensor  # (B, N, K)
    distances: Tensor  # (B, N, 4) left, top, right, bottom of the cell's point, in strides, >= 0
    centerness: Tensor  # (B, N) logits
    points: Tensor  # (N, 2) x and y in input pixels
    strides: Tensor  # (N,) float32, of each point's level
    counts: tuple[int, ...]  # cells of each level


class Head(nn.Module):
    """Two towers shared by all levels (section 3.2, figure 2), and a scale for each level."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        levels: int,
        convs: int,
        norm: bool,
        prior: float,
        distances: str,
        centerness_on: str,
    ) -> None:
        super().__init__()
        self.num_classes, self.use_exp = num_classes, distances == "exp"
        self.on_box = centerness_on == "box"
        self.class_tower, self.box_tower = (conv_tower(channels, convs, norm) for _ in range(2))
        self.logits = OutputConv(channels, num_classes, 3, padding=1)
        self.distances = OutputConv(channels, 4, 3, padding=1)
        self.centerness = OutputConv(channels, 1, 3, padding=1)
        towers, outputs = (self.class_tower, self.box_tower), (self.logits, self.distances)
        initialise_head(towers, (*outputs, self.centerness), self.logits, prior)
        self.scales = nn.Parameter(torch.ones(levels)) if self.use_exp else None

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        logits, distances, centerness = [], [], []
        for level, x in enumerate(maps):
            classes, box = self.class_tower(x), self.box_tower(x)
            logits.append(self.logits(classes))  # (B, K, h, w)
            sides = self.distances(box).float()  # (B, 4, h, w)
            # exp(s_l x), s_l learned for each level, since levels differ in range (section 3.2)
            sides = (self.scales[level] * sides).exp() if self.use_exp else sides.relu()
            distances.append(sides)
            centerness.append(self.centerness(box if self.on_box else classes))  # (B, 1, h, w)
        return (
            per_anchor(logits, self.num_classes),
            per_anchor(distances, 4),
            per_anchor(centerness, 1)[..., 0],
        )


class FCOS(Detector):
    """See the module's text. Sizes are in input pixels.

    levels: finest and coarsest pyramid level, strides 2^l. upsample_by: how the pyramid's maps are
    enlarged (nn.upsample.UPSAMPLES), by default nearest. level_range: an object whose farthest side
    is at a distance r belongs to the level with level_range / 2 < r / stride <= level_range; the
    finest takes all that are smaller, the coarsest all that are larger. center_radius: positives
    are at most this number of strides from their object's centre; null: anywhere in it. distances:
    `exp` of a scaled output (section 3.2), or `relu`, torchvision's. box_loss: `giou` or `iou`
    (equation 2 with table 3). centerness_on: the tower that predicts it, `box` or `class`. score:
    `product` of class and centre-ness (section 3.2) or their `geometric_mean`, torchvision's.
    points_as_torchvision: points at their cells' upper left corners, strides floored (see Anchors);
    the paper's are in the middle (section 3.1).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        channels: int = 256,  # as RetinaNet
        convs: int = 4,  # section 3.2
        tower_norm: bool = True,  # section 4: group norm in the heads
        levels: tuple[int, int] = (3, 7),  # section 3.2
        extra: str = "conv_p5",  # section 3.2: P6 and P7 are made of P5
        upsample_by: str | None = None,
        level_range: float = 8.0,  # section 3.2: 64 pixels at stride 8, 128 at 16, ...
        center_radius: float | None = 1.5,  # table 3, ctr. sampling
        points_as_torchvision: bool = False,
        distances: str = "exp",
        box_loss: str = "giou",  # table 3
        centerness_on: str = "box",  # table 3, ctr. on reg.
        score: str = "product",
        alpha: float = 0.25,  # as RetinaNet
        gamma: float = 2.0,  # as RetinaNet
        box_weight: float = 1.0,  # equation 2, lambda
        prior: float = 0.01,
        score_threshold: float = 0.05,  # section 3.1
        top_k: int = 1000,  # a level, as RetinaNet
        nms_threshold: float = 0.5,  # as RetinaNet
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=2 ** max(5, levels[0]), backbone=backbone)
        check_choice("detector.distances", distances, DISTANCES)
        check_choice("detector.box_loss", box_loss, BOX_LOSSES)
        check_choice("detector.centerness_on", centerness_on, TOWERS)
        check_choice("detector.score", score, SCORES)
        self.neck = FPN(
            backbone.channels,
            backbone.strides,
            channels=channels,
            min_level=levels[0],
            max_level=levels[1],
            extra=extra,
            upsample_by=upsample_by or "nearest",  # 1612.03144, section 3
        )
        count = levels[1] - levels[0] + 1
        self.head = Head(
            channels, num_classes, count, convs, tower_norm, prior, distances, centerness_on
        )
        # A cell is a square of one stride; distances are from its corner or its centre.
        sizes = [[float(stride)] for stride in self.neck.strides]
        self.cells = Anchors(self.neck.strides, sizes, (1.0,), points_as_torchvision)
        self.corners = points_as_torchvision
        self.level_range, self.center_radius = level_range, center_radius
        self.box_loss, self.score = box_loss, score
        self.alpha, self.gamma, self.box_weight = alpha, gamma, box_weight
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        maps = self.neck(self.backbone(self.normalise(images)))
        squares = self.cells(maps, images.pixels.shape[-2:])  # (N, 4) about the cells' corners
        strides = squares[:, 2] - squares[:, 0]
        # Section 3.1: a cell represents its centre, floor(s / 2) + x s; torchvision's for x s.
        points = box_ops.to_cxcywh(squares)[:, :2] if self.corners else squares[:, 2:]
        counts = tuple(x.shape[2] * x.shape[3] for x in maps)
        return Outputs(*self.head(maps), points, strides, counts)

    @torch.no_grad()
    def assign(self, points: Tensor, strides: Tensor, truth: PaddedTargets) -> Tensor:
        """(B, N): every point's object, BACKGROUND or IGNORE."""
        boxes, strides = truth.boxes[:, None], strides[:, None]  # (B, 1, M, 4), (N, 1)
        sides = to_sides(points[:, None], boxes)  # (B, N, M, 4)
        within, farthest = sides.amin(3) > 0, sides.amax(3) / strides  # (B, N, M)
        positive = within & truth.single[:, None]
        if self.center_radius is not None:
            middle = (boxes[..., :2] + boxes[..., 2:]) / 2
            off = (points[:, None] - middle).abs().amax(3) / strides
            positive &= off < self.center_radius
        positive &= (farthest > self.level_range / 2) | (strides == strides[0])
        positive &= (farthest < self.level_range) | (strides == strides[-1])
        # A point in several objects is that of least area's (section 3.1).
        least, index = box_ops.area(boxes).masked_fill(~positive, math.inf).min(2)  # (B, N)
        crowded = (within & truth.crowd[:, None]).any(2)
        return torch.where(least.isfinite(), index, torch.where(crowded, IGNORE, BACKGROUND))

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        truth = pad_targets(targets)
        matched = self.assign(outputs.points, outputs.strides, truth)  # (B, N)
        image, cell = (matched >= 0).nonzero(as_tuple=True)  # of the P positives
        index = matched[image, cell]
        wanted = to_sides(outputs.points[cell], truth.boxes[image, index])
        wanted = wanted / outputs.strides[cell, None]  # (P, 4)

        classes = torch.zeros_like(outputs.logits, dtype=torch.float32)
        classes[image, cell, truth.labels[image, index]] = 1
        focal = sigmoid_focal(outputs.logits, classes, alpha=self.alpha, gamma=self.gamma)
        box = iou_loss(outputs.distances[image, cell], wanted, self.box_loss == "giou")
        central = F.binary_cross_entropy_with_logits(
            outputs.centerness[image, cell].float(), centerness(wanted), reduction="sum"
        )
        count = normaliser((matched >= 0).sum())
        return {
            "class": (focal.sum(2) * (matched != IGNORE)).sum() / count,
            "box": self.box_weight * box.sum() / count,
            "centerness": central / count,
        }

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        central = outputs.centerness.float().sigmoid()[..., None]  # (B, N, 1)
        scores = outputs.logits.float().sigmoid() * central  # section 3.2
        if self.score == "geometric_mean":
            scores = scores.sqrt()
        scores, index, labels = top_of_levels(scores, outputs.counts, self.top_k)
        distances = outputs.distances.gather(1, index[..., None].expand(-1, -1, 4))
        sides = distances * outputs.strides[index, None]
        points = outputs.points[index]
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
        return Candidates(boxes, scores, labels)


def to_sides(points: Tensor, boxes: Tensor) -> Tensor:
    """(..., 2), (..., 4) -> (..., 4): how far left, top, right and bottom are (equation 1)."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def centerness(sides: Tensor) -> Tensor:
    """(..., 4) -> (...): 1 in the middle of the box, 0 at its edge (equation 3)."""
    across, down = sides[..., 0::2], sides[..., 1::2]  # left and right, top and bottom
    ratio = (across.amin(-1) * down.amin(-1)) / (across.amax(-1) * down.amax(-1))
    return ratio.sqrt()


def iou_loss(sides: Tensor, wanted: Tensor, generalised: bool) -> Tensor:
    """(P, 4), (P, 4) -> (P,): for two boxes about one point, -log(IoU) or 1 - GIoU."""
    inner, outer = torch.minimum(sides, wanted), torch.maximum(sides, wanted)
    overlap, hull, own, other = (
        (x[:, 0] + x[:, 2]) * (x[:, 1] + x[:, 3]) for x in (inner, outer, sides, wanted)
    )
    union = own + other - overlap
    if not generalised:
        return -torch.log((overlap + 1) / (union + 1))  # + 1: no logarithm of 0 (published code)
    return 1 - overlap / union + (hull - union) / hull
