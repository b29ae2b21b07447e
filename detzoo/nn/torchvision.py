"""Parts of torchvision's detectors: pyramid, extra maps, anchors, heads, their boxes and scores.

Shape letters: B images, C channels, K classes, N anchors, R regions of all images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detzoo.nn.backbones import Backbone
from detzoo.nn.blocks import Halving
from detzoo.nn.norms import GroupNorm, L2Norm
from detzoo.ops.select import top_candidates
from detzoo.types import Candidates

SSD300_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)  # of the image's side


class Pyramid(nn.Module):
    """torchvision's FPN over levels lo..hi; one level more is its max pool, two are P6 and P7."""

    def __init__(self, backbone: Backbone, channels: int, levels: tuple[int, int]) -> None:
        super().__init__()
        self.used = _maps(backbone, levels)
        beyond = levels[1] - (backbone.strides[self.used[-1]].bit_length() - 1)
        if beyond not in (0, 1, 2):
            raise ValueError(
                f"levels is {levels}; torchvision's pyramid ends at the backbone's last map "
                f"(stride {backbone.strides[-1]}) or one or two levels later"
            )
        extra = [None, LastLevelMaxPool(), LastLevelP6P7(channels, channels)][beyond]
        widths = [backbone.channels[i] for i in self.used]
        self.fpn = FeaturePyramidNetwork(widths, channels, extra)
        self.channels = [channels] * (len(self.used) + beyond)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        named = OrderedDict((str(i), maps[used]) for i, used in enumerate(self.used))
        return list(self.fpn(named).values())


class ExtraMaps(nn.Module):
    """The backbone's maps and then ever smaller ones, each by a 1x1 and a stride-2 3x3 (SSD).

    channels: of those, one number or one each. unpadded: the number of last ones that shrink by
    having no padding instead. l2_scale: the first map is normalised (L2Norm). Both as in
    `ssd300_vgg16`.
    """

    def __init__(
        self,
        backbone: Backbone,
        channels: int | Sequence[int],
        levels: tuple[int, int],
        unpadded: int = 0,
        l2_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.used = _maps(backbone, levels)
        self.channels = [backbone.channels[i] for i in self.used]
        further = levels[1] - levels[0] + 1 - len(self.channels)
        widths = [channels] * further if isinstance(channels, int) else list(channels)
        if len(widths) != further:
            raise ValueError(f"channels is {channels}; {further} maps come after the backbone's")
        self.norm = nn.Identity() if l2_scale is None else L2Norm(self.channels[0], l2_scale)
        self.extra = nn.ModuleList()
        for i, width in enumerate(widths):
            narrow = nn.Conv2d(self.channels[-1], width // 2, 1)
            padded = i < further - unpadded
            wide = Halving(width // 2, width) if padded else nn.Conv2d(width // 2, width, 3)
            for layer in (narrow, wide):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            self.extra.append(
                nn.Sequential(narrow, nn.ReLU(inplace=True), wide, nn.ReLU(inplace=True))
            )
            self.channels.append(width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = [maps[i] for i in self.used]
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return [self.norm(maps[0]), *maps[1:]]


def check(
    kind: str,
    channels: int | Sequence[int],
    anchors: object,
    head_width: int | None,
    tower_norm: bool,
    of_ssd: Sequence[object],
) -> None:
    """Raise ValueError for an argument that the kind has no use for."""
    if kind != "ssd" and (any(of_ssd) or not isinstance(channels, int)):
        raise ValueError(
            f"torchvision's {kind} has no unpadded, l2_scale and steps, and one number of channels;"
            " only ssd has"
        )
    if kind in ("ssd", "fcos") and anchors:
        raise ValueError(f"torchvision's {kind} takes no smallest_anchor and no anchor_sizes")
    if kind != "faster_rcnn" and head_width:
        raise ValueError(f"torchvision's {kind} has no head_width; only faster_rcnn has")
    if tower_norm and kind != "retinanet":
        raise ValueError(f"torchvision's {kind} has no choice of tower_norm; retinanet has")
    if (kind == "fcos" or tower_norm) and channels % 32:
        raise ValueError(f"channels is {channels}; {kind} has group norm of 32 groups")


def _maps(backbone: Backbone, levels: tuple[int, int]) -> list[int]:
    """Which of the backbone's maps are among `levels`; the finest must be one of them."""
    used = [i for i, s in enumerate(backbone.strides) if 2 ** levels[0] <= s <= 2 ** levels[1]]
    if not used or backbone.strides[used[0]] != 2 ** levels[0]:
        raise ValueError(f"levels is {levels}, but the backbone's strides are {backbone.strides}")
    return used


def anchor_sizes_of(kind: str, strides: list[int], smallest: float) -> list[list[float]]:
    base = [smallest * stride / strides[0] for stride in strides]
    if kind == "retinanet":  # cut to whole pixels, as torchvision does
        return [[int(size * 2 ** (i / 3)) for i in range(3)] for size in base]
    if kind == "faster_rcnn":
        return [[size] for size in base]
    return [[stride] for stride in strides]  # FCOS's points


def anchor_generator(sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> AnchorGenerator:
    return AnchorGenerator(tuple(tuple(s) for s in sizes), (tuple(ratios),) * len(sizes))


def default_boxes(levels: int, steps: Sequence[float] | None) -> DefaultBoxGenerator:
    """SSD's, of 4 shapes on the first and the last two levels and 6 between (section 3.1).

    steps: pixels between a level's cells, where they are not to share the image evenly.
    """
    ratios = [[2, 3] if 0 < i < levels - 2 else [2] for i in range(levels)]
    scales = list(SSD300_SCALES) if levels + 1 == len(SSD300_SCALES) else None
    return DefaultBoxGenerator(ratios, scales=scales, steps=steps and list(steps))


def model_parts(
    kind: str,
    anchor_sizes: Sequence[Sequence[float]],
    pooled: int,
    channels: int,
    head_width: int | None,
    tower_norm: bool,
    num_classes: int,
    steps: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The modules that torchvision's model of this kind is given, by its names for them.

    pooled: how many of the maps Faster R-CNN pools regions from. steps: of ssd's cells.
    """
    if kind == "faster_rcnn":
        width = head_width or 1024
        return {
            "rpn_anchor_generator": anchor_generator(anchor_sizes, (0.5, 1.0, 2.0)),
            "box_roi_pool": MultiScaleRoIAlign(list(map(str, range(pooled))), 7, 2),
            "box_head": TwoMLPHead(channels * 7 * 7, width),
            "box_predictor": FastRCNNPredictor(width, num_classes + 1),
            "num_classes": None,  # the predictor has them
        }
    if kind == "ssd":
        return {"anchor_generator": default_boxes(len(anchor_sizes), steps), "size": (1, 1)}
    generator = anchor_generator(anchor_sizes, (0.5, 1.0, 2.0) if kind == "retinanet" else (1.0,))
    if not tower_norm:
        return {"anchor_generator": generator}
    anchors = generator.num_anchors_per_location()[0]
    head = RetinaNetHead(channels, anchors, num_classes, norm_layer=partial(GroupNorm, 32))
    return {"anchor_generator": generator, "head": head}


def dense_candidates(
    kind: str, coder: Any, head: Mapping[str, Tensor], anchors: Tensor, count: int
) -> Candidates:
    """The best of what RetinaNet, SSD or FCOS put out, (B, N, ...) by torchvision's names."""
    logits = head["cls_logits"]
    scores = logits.softmax(2)[..., 1:] if kind == "ssd" else logits.sigmoid()
    if kind == "fcos":
        scores = (scores * head["bbox_ctrness"].sigmoid()).sqrt()
    scores, index, labels = top_candidates(scores, count)
    moves = head["bbox_regression"].gather(1, index[..., None].expand(-1, -1, 4))
    decode = coder.decode if kind == "fcos" else coder.decode_single
    boxes = decode(moves.flatten(0, 1), anchors[index].flatten(0, 1))
    return Candidates(boxes.view_as(moves), scores, labels)


def region_candidates(
    coder: Any, scores: Tensor, deltas: Tensor, rois: Sequence[Tensor], count: int
) -> Candidates:
    """The best of what Faster R-CNN puts out: (R, K + 1) logits, background first, and deltas."""
    counts = [len(r) for r in rois]
    boxes = coder.decode(deltas, list(rois))[:, 1:]  # (R, K, 4)
    parts = scores.softmax(1)[:, 1:].split(counts)
    scores = pad_sequence(parts, batch_first=True, padding_value=-1.0)  # (B, P, K)
    boxes = pad_sequence(boxes.split(counts), batch_first=True)  # (B, P, K, 4)
    scores, index, labels = top_candidates(scores, count)
    image = torch.arange(len(counts), device=index.device)[:, None]
    return Candidates(boxes[image, index, labels], scores, labels)
