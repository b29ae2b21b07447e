"""Augmentation: transforms of an image and its boxes between the cache and the batch.

A policy is a list of steps. A step takes a View and a numpy generator and gives a View of the same
height and width; it draws from that generator alone, never from global state, so that a view is a
function of (seed, epoch, sample) and not of the process that computes it. Pixels go through
torchvision's transforms.v2 kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

Range = tuple[float, float]
Span = tuple[int, int]  # first pixel and the one after the last
MIN_SIDE = 1.0  # pixels; a cropped box with a smaller side is dropped


class View(NamedTuple):
    """image: (3, H, W) uint8. boxes: (M, 4) float32 xyxy in it. labels: (M,). crowd: (M,) bool.

    proposals: (P, 4) float32 xyxy; they go wherever the image goes.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    proposals: Tensor = torch.zeros(0, 4)


Step = Callable[[View, np.random.Generator], View]


class Policy:
    """Steps, one after the other."""

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self.steps = tuple(steps)

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        for step in self.steps:
            view = step(view, rng)
        return view


class Flip:
    """Mirror left and right with probability p: x becomes W - x."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        if rng.random() >= self.p:
            return view
        width = view.image.shape[-1]
        boxes, proposals = view.boxes.clone(), view.proposals.clone()
        for moved in (boxes, proposals):
            moved[:, [0, 2]] = width - moved[:, [2, 0]]
        image = transforms.horizontal_flip(view.image)
        return view._replace(image=image, boxes=boxes, proposals=proposals)


class Zoom:
    """Scale jitter and crop in one resampling: take a window of another size at a random place.

    scale: range of the enlargement, drawn log-uniformly; above 1 the window is a crop, below 1 it
    is larger than the image, whose surroundings are grey. aspect: the window's sides differ from
    the image's by up to this factor. Boxes are clipped to the window. A box with less than
    min_visible of its area left becomes a crowd: detectors need not find it and are not penalised
    for it.
    """

    def __init__(
        self,
        scale: Range = (0.7, 1.5),
        aspect: float = 1.15,
        min_visible: float = 0.3,
        p: float = 0.8,
        fill: int = 114,
    ) -> None:
        if not 0 < scale[0] <= scale[1] or aspect < 1:
            raise ValueError(
                f"scale {tuple(scale)}, aspect {aspect}: need 0 < low <= high, aspect >= 1"
            )
        self.scale, self.aspect, self.min_visible = (scale[0], scale[1]), aspect, min_visible
        self.p, self.fill = p, fill

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        if rng.random() >= self.p:
            return view
        height, width = view.image.shape[-2:]
        zoom = math.exp(rng.uniform(*map(math.log, self.scale)))
        squeeze = math.exp(rng.uniform(-0.5, 0.5) * math.log(self.aspect))
        rows, columns = (
            _zoomed(side, factor, rng)
            for side, factor in ((height, zoom / squeeze), (width, zoom * squeeze))
        )
        (source, target), size = zip(rows, columns, strict=True), (height, width)
        image = resample_part(view.image, source, target, size, self.fill)
        return _moved(view, image, source, target, self.min_visible)


def _zoomed(side: int, factor: float, rng: np.random.Generator) -> tuple[Span, Span]:
    """The shown part of a side, and its place: a crop that fills the output, or the whole inside
    it."""
    whole = 0, side
    part = max(1, round(side / factor if factor >= 1 else side * factor))
    first = round(rng.uniform(0, side - part))
    there = first, first + part
    return (there, whole) if factor >= 1 else (whole, there)


def view_window(
    view: View, top: int, left: int, window: tuple[int, int], min_visible: float, fill: int
) -> View:
    """The content of a window (height, width) at (top, left), resized to the view's own size."""
    height, width = view.image.shape[-2:]
    source = (top, top + window[0]), (left, left + window[1])
    seen = tuple(
        (max(low, 0), min(high, side))
        for (low, high), side in zip(source, (height, width), strict=True)
    )
    at = tuple(
        (low - first, high - first) for (low, high), (first, _) in zip(seen, source, strict=True)
    )
    image = resample_part(view.image, seen, at, window, fill)
    image = transforms.resize(image, [height, width], antialias=True)
    return _moved(view, image, source, ((0, height), (0, width)), min_visible)


def resample_part(
    image: Tensor, source: Sequence[Span], target: Sequence[Span], size: tuple[int, int], fill: int
) -> Tensor:
    """A part of an image, resized into a part of another of `size`, (3, H, W) uint8.

    source, target: (top, bottom) and (left, right) in pixels. Where nothing is drawn is `fill`.
    """
    (top, bottom), (left, right) = source
    (up, down), (west, east) = target
    pixels = image.permute(1, 2, 0)[top:bottom, left:right]
    image = pixels.contiguous().permute(2, 0, 1)  # half of the time of resizing a strided tensor
    image = transforms.resize(image, [down - up, east - west], antialias=True)
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    canvas = np.full((*size, 3), fill, np.uint8)  # a tenth of the time of torch's pad
    canvas[up:down, west:east] = image.permute(1, 2, 0).numpy()
    return torch.from_numpy(canvas).permute(2, 0, 1)


def _moved(
    view: View, image: Tensor, source: Sequence[Span], target: Sequence[Span], min_visible: float
) -> View:
    """The view as `image`, its boxes moved as source is to target and clipped to that."""
    # A handful of numbers: numpy's small operations cost a tenth of torch's.
    (top, bottom), (left, right) = source
    (up, down), (west, east) = target
    scale = np.array([(east - west) / (right - left), (down - up) / (bottom - top)] * 2, np.float32)
    corner = np.array([left, top] * 2, np.float32)
    low, high = np.array([west, up] * 2, np.float32), np.array([east, down] * 2, np.float32)
    whole = (view.boxes.numpy() - corner) * scale + low
    boxes = whole.clip(low, high)
    proposals = ((view.proposals.numpy() - corner) * scale + low).clip(low, high)
    sides = boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)
    keep = torch.from_numpy((sides >= MIN_SIDE).all(1))
    crowd = view.crowd | torch.from_numpy(visible < min_visible)
    proposals = proposals[(proposals[:, 2:] - proposals[:, :2] >= MIN_SIDE).all(1)]
    return View(
        image,
        torch.from_numpy(boxes)[keep],
        view.labels[keep],
        crowd[keep],
        torch.from_numpy(proposals),
    )


class Colour:
    """Brightness, contrast and saturation, each with probability p by a factor of 1 +- its amount.

    The three as torchvision defines them (its adjust_* functions), but as one linear map of RGB,
    which is four times as fast as one after the other.
    """

    LUMA = torch.tensor([0.2989, 0.587, 0.114])

    def __init__(
        self,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        p: float = 0.5,
    ) -> None:
        self.amounts = brightness, contrast, saturation
        self.p = p

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        factors = [
            rng.uniform(max(0.0, 1 - amount), 1 + amount) if rng.random() < self.p else 1.0
            for amount in self.amounts
        ]
        return view._replace(image=recolour(view.image, *factors))


def recolour(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """(3, H, W) uint8; factors of 1 change nothing. Clipped to 0..255 once, at the end."""
    if brightness == contrast == saturation == 1:
        return image
    pixels = image.reshape(3, -1).float()
    luma = Colour.LUMA
    # x -> brightness * x -> contrast * x + (1 - contrast) * mean luma of x
    # -> saturation * x + (1 - saturation) * luma of x
    mean = brightness * (luma @ pixels.mean(1))
    mix = saturation * torch.eye(3) + (1 - saturation) * luma.expand(3, 3)
    offset = (1 - contrast) * mean * mix.sum(1, keepdim=True)
    pixels = torch.addmm(offset, mix * (contrast * brightness), pixels)
    return pixels.clamp_(0, 255).to(torch.uint8).reshape(image.shape)
