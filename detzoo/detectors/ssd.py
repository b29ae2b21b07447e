"""SSD: Single Shot MultiBox Detector (Liu 2016, arXiv:1512.02325).

Every cell of a series of ever coarser maps predicts, for each of its default boxes, a class and a
box: small objects on fine maps, large ones on coarse maps. Only the hardest of the many negatives
are trained on, three for each positive.

Where we depart: background is class K, not 0; a default box covered by a crowd is no negative. An
image without objects has no loss, as in the paper. Deltas are divided by deviations of 0.1 and 0.2,
as in the published code. The paper's network is the backbone VGG16, whose two maps are conv4_3 and
conv7; other backbones give their own maps, from `finest_level` on. The fifth extra map of SSD512 is
left out.

Shape letters: B images, K classes, N default boxes in all, A of them in a cell, M objects of an
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import Backbone
from detzoo.nn.blocks import Halving, OutputConv
from detzoo.nn.norms import L2Norm
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import default_boxes, per_anchor
from detzoo.ops.assign import BACKGROUND, IGNORE, bipartite, inside_crowd
from detzoo.ops.losses import hard_negatives, normaliser, smooth_l1
from detzoo.ops.select import boxes_above
from detzoo.types import Candidates, Images, Target, pad_targets

VARIANCES = (10.0, 10.0, 5.0, 5.0)  # deltas over 0.1 and 0.2, as the published code


class Outputs(NamedTuple):
    logits: Tensor  # (B, N, K + 1), background last
    deltas: Tensor  # (B, N, 4)
    anchors: Tensor  # (N, 4) the default boxes


class Maps(nn.Module):
    """The backbone's maps from stride 2^finest_level on, then ever coarser ones (figure 2).

    Each further map is a 1x1 of half its width and a 3x3, of stride 2; the last `unpadded` of them
    shrink by having no padding instead. The first map is normalised (L2Norm).

    forward: the backbone's maps -> [(B, C_i, h_i, w_i)], `count` of them.
    """

    def __init__(
        self,
        backbone: Backbone,
        finest_level: int,
        count: int,
        widths: int | Sequence[int],
        unpadded: int,
        l2_scale: float | None,
    ) -> None:
        super().__init__()
        stride = 2**finest_level
        if stride not in backbone.strides:
            raise ValueError(f"no map has stride {stride}, the backbone's have {backbone.strides}")
        self.first = list(backbone.strides).index(stride)
        self.channels = list(backbone.channels[self.first : self.first + count])
        self.last = self.first + len(self.channels)
        if self.last < len(backbone.strides):
            raise ValueError(
                f"detector.maps is {count}, fewer than the backbone's {len(backbone.strides)} "
                f"from stride {stride} on; give the backbone a smaller max_stride"
            )
        further = count - len(self.channels)
        widths = [widths] * further if isinstance(widths, int) else list(widths)
        if len(widths) < further:
            raise ValueError(
                f"detector.extra_channels is {widths}, but {further} of {count} maps come after "
                "the backbone's; give one number for all of them, or one for each"
            )
        self.norm = nn.Identity() if l2_scale is None else L2Norm(self.channels[0], l2_scale)
        self.further = nn.ModuleList()
        for i, width in enumerate(widths[:further]):
            narrow = nn.Conv2d(self.channels[-1], width // 2, 1)
            padded = i < further - unpadded
            wide = Halving(width // 2, width) if padded else nn.Conv2d(width // 2, width, 3)
            self.further.append(
                nn.Sequential(narrow, nn.ReLU(inplace=True), wide, nn.ReLU(inplace=True))
            )
            self.channels.append(width)
        _xavier(self.further)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = list(maps[self.first : self.last])
        for layers in self.further:
            if layers[2].padding == (0, 0) and min(maps[-1].shape[-2:]) < 3:
                raise ValueError(
                    f"SSD's map {len(maps) + 1} is a 3x3 without padding of {tuple(maps[-1].shape)}"
                    "; give larger images, fewer detector.maps or detector.unpadded=0"
                )
            maps.append(layers(maps[-1]))
        return [self.norm(maps[0]), *maps[1:]]


class Head(nn.Module):
    """One 3x3 convolution a map for the classes and one for the deltas (section 2.1)."""

    def __init__(self, channels: Sequence[int], shapes: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.scores = num_classes + 1
        pairs = list(zip(channels, shapes, strict=True))
        self.logits = nn.ModuleList(OutputConv(c, a * self.scores, 3, padding=1) for c, a in pairs)
        self.deltas = nn.ModuleList(OutputConv(c, a * 4, 3, padding=1) for c, a in pairs)
        _xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits = [layer(x) for layer, x in zip(self.logits, maps, strict=True)]
        deltas = [layer(x) for layer, x in zip(self.deltas, maps, strict=True)]
        return per_anchor(logits, self.scores), per_anchor(deltas, 4)


def _xavier(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):  # section 3
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class SSD(Detector):
    """See the module's text.

    maps: how many in all; extra_channels: of those after the backbone's, one number or one each.
    scales: shares of the image, one a map and one more; by default first_scale on the first map,
    and smallest to largest, evenly spaced, on the others (section 2.2). ratios: per map, besides 1;
    by default 2 and 3, but 2 alone on the first map and the last two (section 3.1). steps: pixels
    between the cells of every map, where they are not to share the image evenly. top_k: candidates
    of every class that reach NMS. l2_scale: None leaves the first map unchanged, which suits a
    backbone with batch norm.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        finest_level: int = 3,
        maps: int = 6,
        extra_channels: int | Sequence[int] = (512, 256, 256, 256),  # figure 2
        unpadded: int = 2,  # figure 2: 5 cells, 3 cells, 1 cell
        l2_scale: float | None = 20.0,  # section 3.1
        first_scale: float = 0.1,  # section 3.1
        smallest: float = 0.2,  # section 2.2
        largest: float = 0.9,  # section 2.2
        scales: Sequence[float] | None = None,
        ratios: Sequence[Sequence[float]] | None = None,
        steps: Sequence[float] | None = None,
        positive: float = 0.5,  # section 2.2
        negatives: float = 3.0,  # for each positive, section 2.2
        box_beta: float = 1.0,
        score_threshold: float = 0.01,  # section 3.7
        top_k: int = 400,
        nms_threshold: float = 0.45,  # section 3.7
        max_detections: int = 200,  # section 3.7
    ) -> None:
        # Nothing is upsampled and added, so an input may have any size: 300 is no multiple of 16.
        super().__init__(num_classes=num_classes, stride=1, backbone=backbone)
        if scales is None:
            scales = default_scales(maps, first_scale, smallest, largest)
        if ratios is None:
            ratios = [(2.0, 3.0) if 0 < i < maps - 2 else (2.0,) for i in range(maps)]
        for name, given, count in (
            ("scales", scales, maps + 1),
            ("ratios", ratios, maps),
            ("steps", steps, maps),
        ):
            if given is not None and len(given) != count:
                raise ValueError(f"detector.{name} has {len(given)} entries; {maps} maps: {count}")
        self.neck = Maps(backbone, finest_level, maps, extra_channels, unpadded, l2_scale)
        self.scales = tuple(map(float, scales))
        self.ratios = tuple(tuple(map(float, r)) for r in ratios)
        self.steps = None if steps is None else tuple(map(float, steps))
        shapes = [2 + 2 * len(r) for r in self.ratios]  # A of every map
        self.head = Head(self.neck.channels, shapes, num_classes)
        self.positive, self.negatives, self.box_beta = positive, negatives, box_beta
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        maps = self.neck(self.backbone(self.normalise(images)))
        logits, deltas = self.head(maps)
        anchors = default_boxes(
            tuple((x.shape[2], x.shape[3]) for x in maps),
            tuple(images.pixels.shape[-2:]),
            self.scales,
            self.ratios,
            self.steps,
            images.pixels.device,
        )
        return Outputs(logits, deltas, anchors)

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """(B, N) int64 and (B, N, 4): every default box's label and object.

        Each object has its best default box, of those that no closer object has; any other box with
        IoU > `positive` has its best object (section 2.2). The rest has label BACKGROUND or,
        inside a crowd, IGNORE.
        """
        truth = pad_targets(targets)
        iou = box_ops.iou(truth.boxes, anchors[None]) * truth.single[..., None]  # (B, M, N)
        best, index = iou.max(1)  # (B, N)
        owner = bipartite(iou)  # (B, N)
        owner = torch.where((owner < 0) & (best > self.positive), index, owner)
        chosen = owner.clamp(min=0)
        labels = truth.labels.gather(1, chosen)
        rest = torch.where(inside_crowd(anchors, truth), IGNORE, BACKGROUND)
        boxes = truth.boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
        return torch.where(owner >= 0, labels, rest), boxes

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Equations 1 to 3, over the number of positives of the batch."""
        labels, boxes = self.assign(outputs.anchors, targets)
        positive, negative = labels >= 0, labels == BACKGROUND
        wanted = torch.where(positive, labels, self.num_classes)
        logits = outputs.logits.float()
        entropy = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        entropy = entropy.view_as(labels)  # (B, N)
        counted = positive | hard_negatives(entropy, positive, negative, self.negatives)
        count = normaliser(positive.sum())
        image, anchor = positive.nonzero(as_tuple=True)
        deltas = box_ops.encode(outputs.anchors[anchor], boxes[image, anchor], VARIANCES)
        return {
            "class": (entropy * counted).sum() / count,
            "box": smooth_l1(outputs.deltas[image, anchor], deltas, self.box_beta).sum() / count,
        }

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        # a split, for OpenVINO (2026.4) loses a slice that is gathered from
        scores = outputs.logits.float().softmax(2).split((self.num_classes, 1), 2)[0]  # (B, N, K)
        above = boxes_above(scores, self.score_threshold)  # (B, M)
        scores = scores.gather(1, above[..., None].expand(-1, -1, self.num_classes)).mT  # (B, K, M)
        scores, index = scores.topk(min(self.top_k, scores.shape[2]))  # of every class
        labels = torch.arange(self.num_classes, device=scores.device)[:, None].expand_as(scores)
        index = above.gather(1, index.flatten(1))
        deltas = outputs.deltas.gather(1, index[..., None].expand(-1, -1, 4))
        boxes = box_ops.decode(outputs.anchors[index], deltas, VARIANCES)
        return Candidates(boxes, scores.flatten(1), labels.flatten(1))


def default_scales(maps: int, first: float, smallest: float, largest: float) -> list[float]:
    """s_k of equation 4 for all maps but the first, which has its own, and the next after them."""
    step = (largest - smallest) / max(maps - 2, 1)
    return [first, *(smallest + step * k for k in range(maps))]
