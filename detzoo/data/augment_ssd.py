"""SSD's augmentation (Liu 2016, arXiv:1512.02325, sections 2.2 and 3.6) as steps of a Policy.

What is drawn is torchvision's (transforms.v2); torch's global generator, from which it draws, is
seeded from the policy's own and put back, so that a view is still a function of (seed, epoch,
sample).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from detzoo.data.augment import View, look


class Distort:
    """Brightness, contrast, saturation, hue and the order of the channels, each with p = 1/2."""

    def __init__(self) -> None:
        self.distort = v2.RandomPhotometricDistort()

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        with _drawn_from(rng):
            return view._replace(image=self.distort(view.image))


class ZoomOutAndCrop:
    """A canvas of up to `zoom_out` times the sides, a crop of it, resized in one go.

    The canvas is made with probability p. The crop has an IoU of at least 0.1, 0.3, 0.5, 0.7 or 0.9
    with some object, or any, or is the whole; an object stays if its centre is in the crop. A crowd
    region decides nothing, and whatever of it is seen stays a crowd; of the proposals stays what is
    seen of them.
    """

    def __init__(
        self, zoom_out: float = 4.0, p: float = 0.5, crop: bool = True, fill: int = 114
    ) -> None:
        if zoom_out < 1:
            raise ValueError(f"zoom_out is {zoom_out}; it must be at least 1")
        self.zoom_out = v2.RandomZoomOut(side_range=(1.0, zoom_out))
        self.crop = v2.RandomIoUCrop() if crop else None
        self.p, self.fill = p, fill

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        height, width = view.image.shape[-2:]
        top = left = 0
        window = height, width
        objects = view.boxes[~view.crowd]
        with _drawn_from(rng):
            if rng.random() < self.p:
                # left, top, right, bottom of the canvas around the image
                border = self.zoom_out.make_params([view.image])["padding"]
                left, top = -border[0], -border[1]
                window = height + border[1] + border[3], width + border[0] + border[2]
            if self.crop is not None and len(objects):
                moved = objects - torch.tensor([left, top] * 2)
                boxes = tv_tensors.BoundingBoxes(moved, format="XYXY", canvas_size=window)
                part = self.crop.make_params([boxes])
                if part:
                    left, top = left + part["left"], top + part["top"]
                    window = part["height"], part["width"]
        if (top, left, window) == (0, 0, (height, width)):
            return view
        centre = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
        low, high = torch.tensor([left, top]), torch.tensor([left + window[1], top + window[0]])
        keep = view.crowd | ((centre > low) & (centre < high)).all(1)
        objects = {name: getattr(view, name)[keep] for name in ("boxes", "labels", "crowd")}
        view = view._replace(**objects)
        return look(view, top, left, window, min_visible=0.0, fill=self.fill)


@contextmanager
def _drawn_from(rng: np.random.Generator) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        yield
