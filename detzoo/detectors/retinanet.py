"""RetinaNet: Focal Loss for Dense Object Detection (Lin 2017, arXiv:1708.02002).

Every cell of a pyramid predicts, for each of its anchors, class probabilities and a box. Nothing is
sampled: the focal loss gives a hundred thousand easy negatives little weight.

Where we depart: an object whose best anchor has an IoU below 0.5 still trains that anchor
(`force_match`, as detectron2 and torchvision do; the paper leaves it out), since small objects
would have no anchor at all; boxes are trained by L1, as torchvision's are, where the paper has
smooth L1 (`box_beta`); both sums are divided by the positives of the batch, not of each image, so
that a batch may contain images without objects; and the towers' initial weights are scaled by their
width (nn.towers). recipe=paper/retinanet reverts the first two.

Shape letters: B images, K classes, A anchors a cell, N anchors in all, H and W of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import FPN, Anchors, Backbone
from detzoo.nn.blocks import OutputConv
from detzoo.nn.towers import conv_tower, initialise_head
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import per_anchor
from detzoo.ops.assign import BACKGROUND, IGNORE, match
from detzoo.ops.losses import hard_negatives, normaliser, sigmoid_focal, smooth_l1
from detzoo.ops.select import top_of_levels
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, Target, pad_targets

LOSSES = ("focal", "ce", "balanced_ce", "ohem")


class Outputs(NamedTuple):
    logits: Tensor  # (B, N, K)
    deltas: Tensor  # (B, N, 4)
    anchors: Tensor  # (N, 4)
    counts: tuple[int, ...]  # anchors of each level


class Head(nn.Module):
    """Two towers of 3x3 convolutions shared by all levels (section 4, figure 3)."""

    def __init__(
        self,
        channels: int,
        anchors: int,
        num_classes: int,
        convs: int,
        norm: bool,
        prior: float,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_tower, self.box_tower = (conv_tower(channels, convs, norm) for _ in range(2))
        self.logits = OutputConv(channels, anchors * num_classes, 3, padding=1)
        self.deltas = OutputConv(channels, anchors * 4, 3, padding=1)
        towers, outputs = (self.class_tower, self.box_tower), (self.logits, self.deltas)
        initialise_head(towers, outputs, self.logits, prior)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits = [self.logits(self.class_tower(x)) for x in maps]  # (B, A*K, h, w) a level
        deltas = [self.deltas(self.box_tower(x)) for x in maps]  # (B, A*4, h, w) a level
        return per_anchor(logits, self.num_classes), per_anchor(deltas, 4)


class RetinaNet(Detector):
    """See the module's text. Sizes are in input pixels.

    tower_norm: group norm after the towers' convolutions, as torchvision's second version has it;
    the paper has none. levels: finest and coarsest pyramid level, strides 2^l. upsample_by: how
    the pyramid's maps are enlarged (nn.upsample.UPSAMPLES), by default nearest.
    smallest_anchor: base size at the finest level, doubled at every further one; anchor_sizes: or
    all sizes, per level. box_beta: smooth L1's; 0 is L1, torchvision's choice.

    loss: `focal`; `ce`, plain cross-entropy; `balanced_ce`, weighed by alpha (table 1a, best at
    0.75); `ohem`, cross-entropy of the positives and of the hardest negatives, `ohem_ratio` for
    each positive, SSD's form of it (table 1d).
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        channels: int = 256,  # section 4, footnote 2
        convs: int = 4,  # section 4
        tower_norm: bool = False,
        levels: tuple[int, int] = (3, 7),  # section 4
        extra: str = "conv_c5",  # section 4, footnote 2
        upsample_by: str | None = None,
        smallest_anchor: float = 32.0,  # section 4
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        octave_scales: int = 3,  # section 4
        ratios: Sequence[float] = (0.5, 1.0, 2.0),  # section 4
        anchors_as_torchvision: bool = False,
        positive: float = 0.5,  # section 4
        negative: float = 0.4,  # section 4
        force_match: bool = True,
        loss: str = "focal",
        alpha: float = 0.25,  # table 1b
        gamma: float = 2.0,  # table 1b
        ohem_ratio: float = 3.0,  # table 1d
        prior: float = 0.01,  # section 4.1
        box_beta: float = 0.0,
        score_threshold: float = 0.05,  # section 4.1
        top_k: int = 1000,  # a level, section 4.1
        nms_threshold: float = 0.5,  # section 4.1
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=2 ** max(5, levels[0]), backbone=backbone)
        check_choice("detector.loss", loss, LOSSES)
        self.neck = FPN(
            backbone.channels,
            backbone.strides,
            channels=channels,
            min_level=levels[0],
            max_level=levels[1],
            extra=extra,
            upsample_by=upsample_by or "nearest",  # 1612.03144, section 3
        )
        if anchor_sizes is None:
            octave = [2 ** (i / octave_scales) for i in range(octave_scales)]
            base = [smallest_anchor * s / self.neck.strides[0] for s in self.neck.strides]
            anchor_sizes = [[size * o for o in octave] for size in base]
        self.anchors = Anchors(self.neck.strides, anchor_sizes, ratios, anchors_as_torchvision)
        self.head = Head(channels, self.anchors.a_cell, num_classes, convs, tower_norm, prior)
        self.positive, self.negative, self.force_match = positive, negative, force_match
        self.alpha = alpha if loss in ("focal", "balanced_ce") else -1.0
        self.gamma = gamma if loss == "focal" else 0.0
        self.ohem_ratio = ohem_ratio if loss == "ohem" else None
        self.box_beta = box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        maps = self.neck(self.backbone(self.normalise(images)))
        logits, deltas = self.head(maps)
        anchors = self.anchors(maps, images.pixels.shape[-2:])
        counts = tuple(x.shape[2] * x.shape[3] * self.anchors.a_cell for x in maps)
        return Outputs(logits, deltas, anchors, counts)

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Sequence[Target]) -> Tensor:
        """(B, N): every anchor's object, BACKGROUND or IGNORE."""
        return match(
            anchors,
            pad_targets(targets),
            positive=self.positive,
            negative=self.negative,
            force=self.force_match,
        )

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        truth = pad_targets(targets)
        matched = self.assign(outputs.anchors, truth)  # (B, N)
        image, anchor = (matched >= 0).nonzero(as_tuple=True)  # the positives
        mine = matched[image, anchor]
        boxes, labels = truth.boxes[image, mine], truth.labels[image, mine]

        wanted = torch.zeros_like(outputs.logits, dtype=torch.float32)
        wanted[image, anchor, labels] = 1
        focal = sigmoid_focal(outputs.logits, wanted, alpha=self.alpha, gamma=self.gamma)
        focal = focal.sum(2)  # (B, N)
        counted = matched != IGNORE
        if self.ohem_ratio is not None:
            negative = hard_negatives(focal, matched >= 0, matched == BACKGROUND, self.ohem_ratio)
            counted = (matched >= 0) | negative
        count = normaliser((matched >= 0).sum())
        deltas = box_ops.encode(outputs.anchors[anchor], boxes)
        return {
            "class": (focal * counted).sum() / count,
            "box": smooth_l1(outputs.deltas[image, anchor], deltas, self.box_beta).sum() / count,
        }

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        logits, index, labels = top_of_levels(outputs.logits, outputs.counts, self.top_k)
        deltas = outputs.deltas.gather(1, index[..., None].expand(-1, -1, 4))
        return Candidates(box_ops.decode(outputs.anchors[index], deltas), logits.sigmoid(), labels)
