"""Every method by its name: an explanation of a detection as a map over the image's own pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detzoo.detector import Detector, eval_mode
from detzoo.explain.maps import cam, grad_cam, odam
from detzoo.explain.perturb import MASKS, d_rise, occlusion
from detzoo.explain.pixels import backpropagation, saliency, smooth_grad
from detzoo.explain.target import Asked, check_asked
from detzoo.explain.view import View, look, scaled
from detzoo.ops.precision import float32_as
from detzoo.types import Detections


@dataclass(frozen=True)
class Method:
    """draw: (detector, view, asked[, seed]) -> (H, W) over the padded pixels, 0 or more.

    title: as a page shows it, with its source. cost: in words.
    """

    draw: Callable[..., Tensor]
    title: str
    cost: str


METHODS: dict[str, Method] = {
    "odam": Method(odam, "ODAM (2304.06354)", "1 forward, 1 backward"),
    "grad_cam": Method(grad_cam, "Grad-CAM (1610.02391)", "1 forward, 1 backward"),
    "cam": Method(cam, "CAM (1512.04150)", "1 forward, 1 backward"),
    "saliency": Method(saliency, "saliency (1312.6034)", "1 forward, 1 backward"),
    "smooth_grad": Method(smooth_grad, "SmoothGrad (1706.03825)", "16 forwards and backwards"),
    "deconvnet": Method(
        partial(backpropagation, rule="deconvnet"), "deconvnet (1311.2901)", "1 forward, 1 backward"
    ),
    "guided": Method(
        partial(backpropagation, rule="guided"),
        "guided backpropagation (1412.6806)",
        "1 forward, 1 backward",
    ),
    "occlusion": Method(occlusion, "occlusion (1311.2901)", "up to 256 forwards"),
    "d_rise": Method(d_rise, "D-RISE (2006.03204)", f"{MASKS} forwards"),
}


def uniform(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): everywhere the same."""
    return torch.ones_like(view.pixels[0, 0])


def centred(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): a Gaussian in the middle of the image, a quarter of its sides wide."""
    height, width = view.frame.resized
    rows = torch.arange(view.pixels.shape[2], device=view.pixels.device) + 0.5
    columns = torch.arange(view.pixels.shape[3], device=view.pixels.device) + 0.5
    y = (rows / height - 0.5) / 0.25
    x = (columns / width - 0.5) / 0.25
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / 2)


def inside(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): the detection's box, a little more towards its middle: pixels have an order."""
    x1, y1, x2, y2 = asked.box.tolist()
    rows = torch.arange(view.pixels.shape[2], device=view.pixels.device) + 0.5
    columns = torch.arange(view.pixels.shape[3], device=view.pixels.device) + 0.5
    y = (rows - (y1 + y2) / 2).abs() / max((y2 - y1) / 2, 0.5)
    x = (columns - (x1 + x2) / 2).abs() / max((x2 - x1) / 2, 0.5)
    out = torch.maximum(y[:, None], x[None])
    return (1.1 - 0.1 * out) * (out <= 1)


BASELINES: dict[str, Method] = {
    "uniform": Method(uniform, "uniform", "nothing"),
    "centred": Method(centred, "a blob in the middle of the image", "nothing"),
    "box": Method(inside, "the detection's box", "nothing"),
}


def method_of(name: str) -> Method:
    """ValueError for a name that is neither a method nor a baseline."""
    known = METHODS | BASELINES
    if name not in known:
        raise ValueError(f"method is {name!r}; choose one of {', '.join(known)}")
    return known[name]


def draw(detector: Detector, view: View, asked: Asked, method: str, seed: int = 0) -> Tensor:
    """(H, W) over the padded pixels. The detector computes in eval mode and in IEEE's float32."""
    way = method_of(method).draw
    options: dict[str, Any] = {"seed": seed} if "seed" in signature(way).parameters else {}
    with eval_mode(detector), float32_as(tf32=False):
        return way(detector, view, asked, **options).detach()


def explain(
    detector: Detector,
    image: Any,
    detection: Detections,
    method: str = "odam",
    *,
    index: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """(height, width) float32 in [0, 1]: which pixels of the image the detection's score depends
    on.

    image: a path, a PIL image or an (H, W, 3) uint8 RGB array. detection: as `predict` gives it, in
    the image's pixels; index: which of several. method: one of METHODS or BASELINES. The map is
    divided by its largest value and covers the whole image: it is not cut to the box, and a
    letterbox is undone. Deterministic by seed. Raises ValueError for an unknown method and for a
    detection that the detector does not make.
    """
    method_of(method)
    if not 0 <= index < len(detection):
        raise ValueError(f"index is {index}, and there are {len(detection)} detections")
    with eval_mode(detector):
        view = look(detector, image)
        (box,) = view.boxes(detection.boxes[index : index + 1])
        asked = Asked(box, int(detection.labels[index]))
        check_asked(detector, view, asked)
    return scaled(view.in_original(draw(detector, view, asked, method, seed)))
