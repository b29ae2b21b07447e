"""Resizing: from an image to the size that the network sees, and boxes both ways.

Arrays are (H, W, 3) uint8 RGB; sizes are (height, width); boxes are xyxy and continuous.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from detzoo.data.image import Picture
from detzoo.imagefile import Size
from detzoo.types import Detections, Frame, Images

MAX_PIXELS = 2**25  # 33 megapixels, for which a ResNet's first maps take 4 GB


class Resize(abc.ABC):
    """A rule from an image's size to the size that the network sees, and the resampling itself.

    fixed: all batches of one size have one shape.
    """

    fixed = False

    @abc.abstractmethod
    def size(self, height: int, width: int) -> Size:
        """The resized (height, width), before any padding."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values that identify this rule, for protocol fingerprints."""

    def __call__(self, image: np.ndarray | Picture, id: int) -> tuple[np.ndarray, Frame]:
        """Resize a Picture or (H, W, 3) uint8; returns it with the Frame that maps boxes back.

        The array may be larger than `frame.resized`: the rest, at the right and bottom, is padding.
        """
        if not isinstance(image, Picture):
            image = Picture(image, (image.shape[0], image.shape[1]))
        resized = self.size(*image.size)
        return resample(image.pixels, resized), Frame(id, image.size, resized)


def check_pixels(height: int, width: int, name: str) -> None:
    """Raise ValueError for sides whose maps no detector could hold in memory."""
    if height * width > MAX_PIXELS:
        sides = (f"{side:,}" if side < 1e12 else "far too many" for side in (height, width))
        raise ValueError(
            f"{name} is {' x '.join(sides)} pixels; the network sees at most "
            f"{MAX_PIXELS / 1e6:.0f} megapixels of an image: cut larger ones into tiles"
        )


class Letterbox(Resize):
    """Keep the aspect ratio, fit inside `size`, pad to the whole of it at the right and the bottom.

    size: (height, width), or one number for a square. pad_to_size=False leaves the padding to the
    batch, whose shape then varies from batch to batch. Small images are enlarged.
    """

    def __init__(self, size: int | Sequence[int], pad_to_size: bool = True) -> None:
        values = [size, size] if isinstance(size, int) else list(size)
        if len(values) != 2 or any(not isinstance(v, int) or v < 1 for v in values):
            raise ValueError(f"size is {size!r}; give one positive number or [height, width]")
        check_pixels(values[0], values[1], "size")
        self.target: Size = (values[0], values[1])
        self.pad_to_size = self.fixed = pad_to_size

    def size(self, height: int, width: int) -> Size:
        scale = min(self.target[0] / height, self.target[1] / width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def describe(self) -> dict[str, Any]:
        return {"kind": "letterbox", "size": list(self.target), "pad_to_size": self.pad_to_size}

    def __call__(self, image: np.ndarray | Picture, id: int) -> tuple[np.ndarray, Frame]:
        pixels, frame = super().__call__(image, id)
        if self.pad_to_size and frame.resized != self.target:
            canvas = np.zeros((*self.target, 3), np.uint8)
            canvas[: frame.resized[0], : frame.resized[1]] = pixels
            pixels = canvas
        return pixels, frame


class Stretch(Resize):
    """To exactly `size`, ignoring the aspect ratio, as SSD and YOLO do.

    size: (height, width), or one number for a square.
    """

    fixed = True

    def __init__(self, size: int | Sequence[int]) -> None:
        self.target = Letterbox(size).target

    def size(self, height: int, width: int) -> Size:
        return self.target

    def describe(self) -> dict[str, Any]:
        return {"kind": "stretch", "size": list(self.target)}


class ShortestSide(Resize):
    """Bring the shorter side to `shortest`, but the longer one to no more than `longest`.

    The rule of Fast R-CNN (arXiv:1504.08083, 5.2) and since; sizes are rounded as detectron's are.
    """

    def __init__(self, shortest: int = 800, longest: int = 1333) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError(
                f"shortest {shortest}, longest {longest}: need 1 <= shortest <= longest"
            )
        check_pixels(shortest, longest, "shortest, longest")
        self.shortest, self.longest = shortest, longest

    def size(self, height: int, width: int) -> Size:
        scale = min(self.shortest / min(height, width), self.longest / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def describe(self) -> dict[str, Any]:
        return {"kind": "shortest_side", "shortest": self.shortest, "longest": self.longest}


def resample(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize (H, W, 3) uint8 bilinearly, antialiased where it shrinks (three times PIL's speed)."""
    if image.shape[:2] == tuple(size):
        return image
    pixels = transforms.resize(_tensor(image), list(size), antialias=True)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _tensor(image: np.ndarray) -> Tensor:
    """(3, H, W) view of an (H, W, 3) array."""
    if not image.flags.writeable or min(image.strides) < 0:  # torch takes neither
        image = image.copy()
    return torch.from_numpy(image).permute(2, 0, 1)


def collate_images(
    items: Sequence[tuple[np.ndarray, Frame]],
    stride: int,
    proposals: list[Tensor] | None = None,
    at_least: Size = (1, 1),
) -> Images:
    """Pad resized images to one shape: pixels (B, 3, H, W) uint8, H and W multiples of `stride`.

    Zeros at the right and at the bottom. An array that its resize padded already (Letterbox) keeps
    that size, so every such batch has one shape. proposals: per image, in the resized pixels.
    at_least: (height, width) to pad to even where no image here is that large.
    """
    if not items:
        raise ValueError("collate_images got no images; a batch holds at least one")
    height, width = (
        -(-max(at_least[axis], *(image.shape[axis] for image, _ in items)) // stride) * stride
        for axis in (0, 1)
    )
    # Channels last in memory, as images come: nothing is transposed that the network may not want.
    pixels = torch.zeros((len(items), height, width, 3), dtype=torch.uint8)
    for canvas, (image, _) in zip(pixels.numpy(), items, strict=True):
        canvas[: image.shape[0], : image.shape[1]] = image
    return Images(pixels.permute(0, 3, 1, 2), [frame for _, frame in items], proposals)


def _scale(numerator: Size, denominator: Size, like: Tensor) -> Tensor:
    """Factors for xyxy boxes, of their type and on their device."""
    y, x = (n / d for n, d in zip(numerator, denominator, strict=True))
    return torch.tensor([x, y, x, y], dtype=like.dtype, device=like.device)


def resize_boxes(boxes: Tensor, frame: Frame) -> Tensor:
    """Boxes (M, 4) xyxy in original pixels -> in the pixels that the network sees."""
    return boxes * _scale(frame.resized, frame.original, boxes)


def resize_proposals(
    proposals: Sequence[Tensor] | None, items: Sequence[tuple[np.ndarray, Frame]]
) -> list[Tensor] | None:
    """Per image (P, 4) in original pixels -> in those of its resized item; None of None."""
    if proposals is None:
        return None
    return [resize_boxes(p, frame) for p, (_, frame) in zip(proposals, items, strict=True)]


def to_original(detections: Detections, frame: Frame) -> Detections:
    """Detections in the network's pixels -> in original pixels, clipped into the original image."""
    boxes = detections.boxes * _scale(frame.original, frame.resized, detections.boxes)
    height, width = frame.original
    limits = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    return replace(detections, boxes=boxes)
