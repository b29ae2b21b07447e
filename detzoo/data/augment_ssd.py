"""SSD's augmentation (Liu 2016, arXiv:1512.02325, sections 2.2 and 3.6) as steps of a Policy.

The ranges are torchvision's (transforms.v2), which are those of the paper's own program.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detzoo.data.augment import View, recolour, view_window

Window = tuple[int, int, int, int]  # left, top, right, bottom

BRIGHTNESS = 0.875, 1.125
CONTRAST = SATURATION = 0.5, 1.5
HUE = 0.05  # of the circle, either way

LEAST_IOU = 0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0  # 2.2; at 1 the whole image is taken
CROP = 0.3, 1.0  # sides, as a part of the image's
ASPECT = 0.5, 2.0
TRIALS = 40


class Distort:
    """Brightness, contrast, saturation, hue and the order of the channels, each with probability p.

    Contrast comes before saturation and hue or, as often, after them.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        brightness, contrast, saturation = (
            rng.uniform(*limits) if rng.random() < self.p else 1.0
            for limits in (BRIGHTNESS, CONTRAST, SATURATION)
        )
        hue = rng.uniform(-HUE, HUE) if rng.random() < self.p else 0.0
        early, late = (contrast, 1.0) if rng.random() < 0.5 else (1.0, contrast)
        image = recolour(view.image, brightness, early, saturation)
        image = recolour(turn_hue(image, hue), 1.0, late, 1.0)
        if rng.random() < self.p:
            pixels = image.permute(1, 2, 0).numpy()[..., rng.permutation(3)]
            image = torch.from_numpy(pixels).permute(2, 0, 1)
        return view._replace(image=image)


def turn_hue(image: Tensor, part: float) -> Tensor:
    """(3, H, W) uint8 with its hues turned by a part of the circle in [-0.5, 0.5].

    torchvision's adjust_hue in a quarter of its time: saturation and value stay, so the three
    channels are one function of the hue, shifted by a third of the circle each.
    """
    if part == 0:
        return image
    pixels = image.reshape(3, -1).float()  # (3, N)
    red, green, blue = pixels
    high, low = pixels.amax(0), pixels.amin(0)
    chroma = high - low
    least = chroma.clamp(min=1)  # grey has no hue; any will do
    after_green = torch.where(high == green, 2 + (blue - red) / least, 4 + (red - green) / least)
    hue = torch.where(high == red, (green - blue) / least, after_green)  # in sixths of the circle
    turned = (hue + 6 * part) + torch.tensor([[0.0], [4.0], [2.0]])
    turned -= torch.floor(turned / 6).mul_(6)
    curve = turned.sub_(3).abs_().sub_(1).clamp_(0, 1)
    return curve.mul_(chroma).add_(low).round_().to(torch.uint8).reshape(image.shape)


class ZoomOutAndCrop:
    """A canvas of up to `zoom_out` times the sides, a crop of it, resized in one go.

    The canvas is made with probability p. The crop has an IoU of at least 0.1, 0.3, 0.5, 0.7 or 0.9
    with some object, or any, or is the whole; an object stays if its centre is in the crop. A crowd
    region decides nothing, and its visible part stays a crowd; proposals are clipped likewise.
    """

    def __init__(
        self, zoom_out: float = 4.0, p: float = 0.5, crop: bool = True, fill: int = 114
    ) -> None:
        if zoom_out < 1:
            raise ValueError(f"zoom_out is {zoom_out}; it must be at least 1")
        self.zoom_out, self.p, self.crop, self.fill = zoom_out, p, crop, fill

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        height, width = view.image.shape[-2:]
        window: Window = 0, 0, width, height
        if rng.random() < self.p:
            window = canvas((height, width), rng.uniform(1, self.zoom_out), rng)
        if self.crop:
            window = crop(view.boxes[~view.crowd].numpy(), window, rng)
        if window == (0, 0, width, height):
            return view
        left, top, right, bottom = window
        centre = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
        low, high = torch.tensor([left, top]), torch.tensor([right, bottom])
        keep = view.crowd | ((centre > low) & (centre < high)).all(1)
        objects = {name: getattr(view, name)[keep] for name in ("boxes", "labels", "crowd")}
        view = view._replace(**objects)
        size = bottom - top, right - left
        return view_window(view, top, left, size, min_visible=0.0, fill=self.fill)


def canvas(size: tuple[int, int], ratio: float, rng: np.random.Generator) -> Window:
    """`ratio` times the sides of an image (height, width), which is placed anywhere on it."""
    sides = [int(side * ratio) for side in size]
    top, left = (
        -int((large - side) * rng.random()) for large, side in zip(sides, size, strict=True)
    )
    return left, top, left + sides[1], top + sides[0]


def crop(boxes: np.ndarray, window: Window, rng: np.random.Generator) -> Window:
    """A part of `window` for these objects (M, 4), or `window` itself, which is one of the choices.

    A least IoU is drawn, then TRIALS crops; the first is taken that has the centre of an object in
    it and, with some object whose centre it has, the least IoU. If none is, another IoU is drawn.
    """
    if not len(boxes):
        return window
    left, top = window[:2]
    sides = np.array([window[2] - left, window[3] - top])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while (least := LEAST_IOU[rng.integers(len(LEAST_IOU))]) < 1:
        wanted = (sides * rng.uniform(*CROP, (TRIALS, 2))).astype(int).clip(1)  # (T, 2) x, y
        low = np.array([left, top]) + ((sides - wanted) * rng.random((TRIALS, 2))).astype(int)
        high = low + wanted
        ratio = wanted[:, 0] / wanted[:, 1]
        inside = ((centre > low[:, None]) & (centre < high[:, None])).all(2)  # (T, M)
        shared = np.minimum(boxes[:, 2:], high[:, None]) - np.maximum(boxes[:, :2], low[:, None])
        shared = shared.clip(0).prod(2)
        iou = shared / (area + wanted.prod(1)[:, None] - shared)
        good = (inside & (iou >= least)).any(1) & (ratio >= ASPECT[0]) & (ratio <= ASPECT[1])
        if good.any():
            first = good.argmax()
            return (*low[first].tolist(), *high[first].tolist())
    return window
