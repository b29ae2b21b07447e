"""CAM, Grad-CAM and ODAM on the feature maps that a detection's score depends on.

Shape letters: R rows of a batch of maps (images, or crops of one), C channels, h and w a map's
sides, H and W the padded image's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from detzoo.detector import Detector
from detzoo.explain.layers import calls_of, layer_of
from detzoo.explain.target import Asked, candidates_of, nearest
from detzoo.explain.view import View


def odam(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): relu of the sum over channels of gradient times activation (2304.06354, eq. 4)."""
    return _heat(detector, view, asked, lambda x, slope: (slope * x).sum(1).relu())


def grad_cam(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): channels weighted by their mean gradient (1610.02391, equations 1 and 2)."""

    def weighed(x: Tensor, slope: Tensor) -> Tensor:
        return (slope.mean((2, 3), keepdim=True) * x).sum(1).relu()

    return _heat(detector, view, asked, weighed)


def cam(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): channels weighted by the class's weights (1512.04150, equation 2).

    Of a head with global pooling alone. A softmax depends only on differences of scores, so that
    what all classes share is taken off: their mean weights, by their probabilities. So it is
    Grad-CAM of the same score, up to a factor. Raises ValueError for a detector with another head.
    """
    head = getattr(detector, "head", None)
    weights = getattr(head, "class_weights", None)  # (K + 1, C)
    if weights is None:
        raise ValueError(
            f"{type(detector).__name__} has no head with global pooling, which cam needs: train "
            "R-CNN with detector.head=gap, or use grad_cam, which is the same for such a head"
        )

    def weighed(x: Tensor, _: Tensor) -> Tensor:
        mean = head(x)[0].softmax(-1) @ weights  # (R, C)
        return ((weights[asked.label] - mean)[..., None, None] * x).sum(1).relu()

    return _heat(detector, view, asked, weighed)


def _heat(
    detector: Detector,
    view: View,
    asked: Asked,
    formula: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """One forward and one backward pass; maps of several levels, upsampled, are added."""
    shape = view.pixels.shape[-2:]
    with calls_of(layer_of(detector)) as calls, torch.enable_grad():
        found, outputs = candidates_of(
            detector, view.variants(view.pixels.detach().requires_grad_())
        )
        score = found.scores[0, nearest(found, asked)[0]]
        crops, first = detector.crops(outputs), 0
        # Of crops the last maps alone, whose rows count on from chunk to chunk.
        maps = [x for call in calls for x in (call if crops is None else call[-1:])]
        maps = [x for x in maps if x.requires_grad]
        slopes = torch.autograd.grad(score, maps, allow_unused=True)
    heat = view.pixels.new_zeros(shape)
    with torch.no_grad():
        for x, slope in zip(maps, slopes, strict=True):
            if slope is None:
                continue
            answer = formula(x, slope)  # (R, h, w)
            if crops is None:
                heat += F.interpolate(answer[:1, None], shape, mode="bilinear")[0, 0]
                continue
            for row in slope.abs().sum((1, 2, 3)).nonzero()[:, 0].tolist():
                paste(heat, answer[row], crops[first + row])
            first += len(x)
    return heat


def paste(heat: Tensor, part: Tensor, box: Tensor) -> None:
    """Add the (h, w) map of a crop to the (H, W) map of the image, in place, where it was cut."""
    height, width = heat.shape
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    whole = F.interpolate(part[None, None], (y2 - y1, x2 - x1), mode="bilinear")[0, 0]
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if left < right and top < bottom:
        heat[top:bottom, left:right] += whole[top - y1 : bottom - y1, left - x1 : right - x1]
