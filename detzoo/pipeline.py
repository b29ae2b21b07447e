"""A detector as one graph, from resized pixels to boxes, for a file that needs no detzoo.

Data-dependent shapes are fixed here: the most detections that there may be, and their number. NMS
is a custom operation (`detzoo::nms`), which ONNX has by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.ops import boxes as box_ops
from detzoo.ops.nms import nms
from detzoo.ops.select import select_padded
from detzoo.types import Frame, Images

LOWEST = -3e38  # below every score; what runtimes make of an infinity differs


class Found(NamedTuple):
    boxes: Tensor  # (B, D, 4) float32 xyxy in input pixels, D = max_detections
    scores: Tensor  # (B, D) float32, descending; 0 from the image's count on
    labels: Tensor  # (B, D) int64; -1 from there on
    counts: Tensor  # (B,) int64, how many there are


class Pipeline(nn.Module):
    """Network and decoding of a detector of fixed shapes (`reason_not_whole`), in eval mode.

    forward: (B, 3, H, W) float32 in [0, 1]; (B, 2) int64, the (height, width) of every image before
    padding, with any values in the padding -> Found.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor, sizes: Tensor) -> Found:
        detector = self.detector
        images = filling(self.filled(pixels, sizes))
        outputs = type(detector).network(detector, images)
        found = detector.candidates(outputs, sizes)
        found = detector.rescore(replace(found, boxes=box_ops.clip(found.boxes, sizes)))
        boxes, scores, labels, kept = select_padded(
            found,
            score_threshold=detector.score_threshold,
            nms_threshold=detector.nms_threshold,
            max_detections=detector.max_detections,
            suppress=partial(torch.ops.detzoo.nms, groups_count=detector.num_classes),
        )
        none = ~kept
        return Found(
            boxes.masked_fill(none[..., None], 0.0),
            scores.masked_fill(none, 0.0),
            labels.masked_fill(none, -1),
            kept.sum(1),
        )

    def filled(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """The padding in the mean colour, which `normalise` makes 0 as it does with padding."""
        height, width = pixels.shape[-2:]
        rows = torch.arange(height, device=pixels.device) < sizes[:, :1]  # (B, H)
        columns = torch.arange(width, device=pixels.device) < sizes[:, 1:]  # (B, W)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(inside, pixels, self.detector.mean)


def filling(pixels: Tensor) -> Images:
    """Images without padding, of (B, 3, H, W)."""
    size = (pixels.shape[-2], pixels.shape[-1])
    return Images(pixels, [Frame(i, size, size) for i in range(len(pixels))])


def reason_not_whole(detector: Detector) -> str | None:
    """Why its pipeline is no graph of fixed shapes, in a sentence; None where it is."""
    name = type(detector).__name__
    if detector.needs_proposals:
        return f"{name} looks at regions that another program proposes from the image"
    if hasattr(detector, "rpn"):
        return (
            f"how many regions {name} reads depends on the image, and their features are read in "
            "a way that neither runtime has an operation for"
        )
    if type(detector).decode is not Detector.decode:
        return f"{name} decodes by its own library, image by image, in shapes that depend on them"
    return None


@torch.library.custom_op("detzoo::nms", mutates_args=())
def _nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    exist: Tensor,
    threshold: float,
    count: int,
    groups_count: int,
) -> tuple[Tensor, Tensor]:
    """ops.nms.nms as one operation, and how many groups there may be."""
    return nms(boxes, scores, groups, exist, threshold, count)


@_nms.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, exist: Tensor, *rest: Any) -> Any:
    shape = (len(scores), min(rest[1], scores.shape[1]))
    return groups.new_empty(shape), exist.new_empty(shape)


def onnx_operations() -> dict[Any, Callable[..., Any]]:
    """ONNX's replacements for our operations. The extra `export` is needed."""
    from onnxscript import opset18 as op

    def suppress(
        boxes: Any,
        scores: Any,
        groups: Any,
        exist: Any,
        threshold: float,
        count: int,
        groups_count: int,
    ) -> Any:
        """NonMaxSuppression takes the scores of all groups, (B, G, N), and gives (image, group,
        box) of what survives, all images' together."""
        one, lowest = op.Constant(value_ints=[1]), op.Constant(value_float=LOWEST)
        every = op.Constant(value_ints=list(range(groups_count)))
        every = op.Reshape(every, op.Constant(value_ints=[1, groups_count, 1]))
        own = op.And(op.Equal(op.Unsqueeze(groups, one), every), op.Unsqueeze(exist, one))
        survivors = op.NonMaxSuppression(
            boxes,
            op.Where(own, op.Unsqueeze(scores, one), lowest),
            op.Constant(value_ints=[count]),
            op.Constant(value_floats=[threshold]),
            op.Constant(value_floats=[LOWEST / 2]),
        )
        places = op.Gather(survivors, op.Constant(value_ints=[0, 2]), axis=1)
        none = op.Expand(lowest, op.Shape(scores))
        ranked = op.ScatterND(none, places, op.GatherND(scores, places))
        best, index = op.TopK(ranked, op.Constant(value_ints=[min(count, scores.shape[1])]), axis=1)
        return index, op.Greater(best, op.Constant(value_float=LOWEST / 2))

    def sort(x: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:
        """All of them by TopK, which puts the first of equals first."""
        count = op.Constant(value_ints=[x.shape[dim]])
        return op.TopK(x, count, axis=dim, largest=int(descending))

    return {torch.ops.detzoo.nms.default: suppress, torch.ops.aten.sort.stable: sort}
