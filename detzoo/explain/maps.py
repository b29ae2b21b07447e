"""Grad-CAM and ODAM on the feature maps that a detection's score hangs on.

Shape letters: R rows of a batch of maps (images, or crops of one), C channels, h and w a map's
sides, H and W the padded image's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
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


def _heat(
    detector: Detector,
    view: View,
    asked: Asked,
    formula: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """One forward and one backward pass; maps of several levels, upsampled, are added."""
    shape = view.pixels.shape[-2:]
    with watched(_source(detector)) as maps, torch.enable_grad():
        found, outputs = candidates_of(
            detector, view.variants(view.pixels.detach().requires_grad_())
        )
        score = found.scores[0, nearest(found, asked)[0]]
        slopes = torch.autograd.grad(score, maps, allow_unused=True)
    heat = view.pixels.new_zeros(shape)
    crops, first = detector.crops(outputs), 0
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


def _source(detector: Detector) -> nn.Module:
    """The module whose maps are looked at: the neck, or the backbone of a detector without one."""
    source = getattr(detector, "neck", None) or getattr(detector, "backbone", None)
    if source is None:
        raise ValueError(
            f"{type(detector).__name__} has neither a neck nor a backbone, so no maps to weigh; "
            "use a method on pixels: occlusion, d_rise, saliency"
        )
    return source


@contextmanager
def watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, the maps that the module gives, call by call, in one list.

    Of a module that is called several times (R-CNN's, by chunks of crops) the last map of each call
    alone: its rows count on from call to call.
    """
    calls: list[list[Tensor]] = []
    maps: list[Tensor] = []

    def keep(_: nn.Module, __: Any, outputs: Any) -> None:
        calls.append([x for x in _tensors(outputs) if x.dim() == 4 and x.requires_grad])
        maps[:] = calls[0] if len(calls) == 1 else [call[-1] for call in calls]

    handle = module.register_forward_hook(keep)
    try:
        yield maps
    finally:
        handle.remove()


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))
    elif isinstance(outputs, list | tuple):
        for part in outputs:
            yield from _tensors(part)


def paste(heat: Tensor, part: Tensor, box: Tensor) -> None:
    """Add the (h, w) map of a crop to the (H, W) map of the image, in place, where it was cut."""
    height, width = heat.shape
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    whole = F.interpolate(part[None, None], (y2 - y1, x2 - x1), mode="bilinear")[0, 0]
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if left < right and top < bottom:
        heat[top:bottom, left:right] += whole[top - y1 : bottom - y1, left - x1 : right - x1]
