"""Which output rows of a detector's last layers belong to which class: one small table.

A training on other classes cannot take over those rows unchanged. All others, such as background
and class-agnostic boxes, belong to no class.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.detectors import (
    DETR,
    FCOS,
    SSD,
    YOLO,
    CenterNet,
    CornerNet,
    RetinaNet,
    TorchvisionDetector,
    YOLOv3,
)
from detzoo.region_detector import RegionDetector


@dataclass(frozen=True)
class Layout:
    """A layer's rows are one or more times (one for each anchor of a cell, say) a block of `before`
    rows of no class, `each` rows for every class in turn, and `after` rows of no class."""

    before: int = 0
    each: int = 1
    after: int = 0

    def width(self, classes: int) -> int:
        """Rows of a block."""
        return self.before + self.each * classes + self.after

    def classes(self, rows: int, blocks: int) -> int | None:
        """How many classes a layer with `rows` rows is for; None where that is no whole number."""
        per_block, rest = divmod(rows, blocks)
        classes, odd = divmod(per_block - self.before - self.after, self.each)
        return None if rest or odd or classes < 1 else classes

    def rows(self, classes: int, blocks: int) -> tuple[Tensor, Tensor]:
        """(K, R) int64, the rows of every class; (S,) int64, those of none, both in their order."""
        width = self.width(classes)
        index = torch.arange(blocks * width, device="cpu").view(blocks, width)
        own = index[:, self.before : width - self.after]
        shared = torch.cat([index[:, : self.before], index[:, width - self.after :]], 1)
        by_class = own.reshape(blocks, classes, self.each).transpose(0, 1).flatten(1)
        return by_class, shared.flatten()


LAST = Layout(after=1)  # a background behind the classes
FIRST = Layout(before=1)  # and before them
PLAIN = Layout()  # sigmoids, and heatmaps

# The detector -> its class layers, by a pattern of their names
_LAYERS: dict[type[Detector], Callable[[Any], dict[str, Layout]]] = {
    RegionDetector: lambda d: {r"head\.scores": LAST, r"head\.deltas": Layout(each=4)},
    RetinaNet: lambda d: {r"head\.logits": PLAIN},
    FCOS: lambda d: {r"head\.logits": PLAIN},
    SSD: lambda d: {r"head\.logits\.\d+": LAST},
    DETR: lambda d: {r"(encoder_)?head\.logits": LAST, "label_embedding": PLAIN},
    YOLO: lambda d: (
        {r"head\.layers\.4": Layout(5 * d.predictors * d.grid**2, d.grid**2)}
        if hasattr(d.head, "layers")  # fully connected: an output's cells are contiguous
        else {rf"head\.{len(d.head) - 1}": Layout(5 * d.predictors)}
    ),
    YOLOv3: lambda d: {r"head\.layers\.\d+\.1": Layout(5)},
    CenterNet: lambda d: (
        {r"head\.\d+\.heatmap": PLAIN}
        | ({} if d.class_agnostic_size else {r"head\.\d+\.values\.0": Layout(each=2)})
    ),
    CornerNet: lambda d: {r"head\.\d+\.corners\.[01]\.heads\.heatmap": PLAIN},
    TorchvisionDetector: lambda d: {
        "faster_rcnn": {r"head\.1\.cls_score": FIRST, r"head\.1\.bbox_pred": Layout(4, 4)},
        "retinanet": {r"head\.classification_head\.cls_logits": PLAIN},
        "fcos": {r"head\.classification_head\.cls_logits": PLAIN},
        "ssd": {r"head\.classification_head\.module_list\.\d+": FIRST},
    }[d.kind],
}


def class_layers(detector: Detector) -> dict[str, tuple[Layout, int]]:
    """Parameter -> the layout of its rows, and its number of blocks; the weights and the biases.

    Raises ValueError for a detector that is not in the table.
    """
    for kind, layouts in _LAYERS.items():
        if isinstance(detector, kind):
            patterns = layouts(detector)
            break
    else:
        raise ValueError(
            f"a {type(detector).__name__} cannot start from other classes' weights yet"
        )
    found = {}
    for name, parameter in detector.named_parameters():
        layer = name.rpartition(".")[0]
        for pattern, layout in patterns.items():
            if re.fullmatch(pattern, layer):
                found[name] = (layout, len(parameter) // layout.width(detector.num_classes))
    return found
