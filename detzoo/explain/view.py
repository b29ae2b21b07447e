"""One image as a detector sees it, and the mapping of a map over those pixels to the image
itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detzoo.data.resize import collate_images, resize_boxes, resize_proposals
from detzoo.detector import Detector
from detzoo.ops.boxes import iou
from detzoo.types import Frame, Images

NEAR = 0.1  # IoU of a proposal and a detection, see `View.near`


@dataclass(frozen=True)
class View:
    """images: a batch of one, float32 in [0, 1], on the detector's device.

    A detector with proposals keeps those of the original image in every variant of it, so that its
    answer changes with the pixels and not with the regions.
    """

    images: Images

    @property
    def frame(self) -> Frame:
        return self.images.frames[0]

    @property
    def pixels(self) -> Tensor:
        """(1, 3, H, W) float32 in [0, 1], padded."""
        return self.images.pixels

    def variants(self, pixels: Tensor) -> Images:
        """(N, 3, H, W) of the same image as a batch, each with its frame and proposals."""
        count, proposals = len(pixels), self.images.proposals
        return replace(
            self.images,
            pixels=pixels,
            frames=[self.frame] * count,
            proposals=None if proposals is None else proposals * count,
        )

    def near(self, box: Tensor) -> View:
        """With only the proposals from which a detection of (4,) `box` can come.

        Those whose IoU with it is NEAR or more: deltas learned from regions of 0.5 and more do not
        move others there. A detector without proposals is unaffected.
        """
        if self.images.proposals is None:
            return self
        (proposals,) = self.images.proposals
        kept = proposals[iou(proposals, box[None])[:, 0] >= NEAR]
        return View(replace(self.images, proposals=[kept if len(kept) else proposals]))

    def boxes(self, boxes: Tensor) -> Tensor:
        """(M, 4) xyxy in original pixels -> in the pixels of `images`."""
        return resize_boxes(boxes.to(self.pixels.device), self.frame)

    def in_original(self, heat: Tensor) -> np.ndarray:
        """(h, w), of any size, over the padded pixels -> (height, width) float32 of the image."""
        whole = _resized(heat, self.pixels.shape[-2:])
        rows, columns = self.frame.resized
        return _resized(whole[:rows, :columns], self.frame.original).cpu().numpy()


def look(detector: Detector, image: Any) -> View:
    """How `detector.predict` would see an image; image and errors as `load_image` has them."""
    picture = detector.picture_of(image)
    return View(_images(detector, picture, detector.proposals_of([picture])))


def pixels_of(detector: Detector, image: Any) -> Tensor:
    """(1, 3, H, W) the pixels of `look`, without the cost of its proposals."""
    return _images(detector, detector.picture_of(image), None).pixels


def _images(detector: Detector, picture: Any, proposals: Any) -> Images:
    resized = [detector.resize(picture, 0)]
    batch = collate_images(resized, detector.stride, resize_proposals(proposals, resized))
    batch = batch.to(next(detector.parameters()).device)
    return replace(batch, pixels=batch.pixels.float() / 255)


def _resized(heat: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(heat.shape) == tuple(size):
        return heat.float()
    return F.interpolate(heat.float()[None, None], tuple(size), mode="bilinear")[0, 0]


def scaled(heat: np.ndarray) -> np.ndarray:
    """A map divided by its largest value: in [0, 1], and all zeros if nothing is above 0."""
    heat = np.maximum(np.nan_to_num(heat), 0)
    most = float(heat.max(initial=0))
    return (heat / most if most > 0 else heat).astype(np.float32)


def blurred(pixels: Tensor, sigma: float) -> Tensor:
    """(1, 3, H, W) under a Gaussian of `sigma` pixels."""
    from torchvision.transforms.v2.functional import gaussian_blur

    side = 2 * round(2 * sigma) + 1
    side = min(side, 2 * (min(pixels.shape[-2:]) // 2) - 1)  # a mirror image is no longer than one
    with torch.no_grad():
        return gaussian_blur(pixels, [max(1, side)] * 2, [sigma] * 2)
