"""From a file to the network's pixels, and boxes both ways.

Which way up an image is shown, and with it its boxes, is `detzoo.imagefile`'s one rule.

Arrays are (H, W, 3) uint8 RGB; sizes are (height, width); boxes are xyxy and continuous.

A JPEG that is about to be shrunk is decoded at a half, a quarter or an eighth of its sides, where
that is still no smaller than what is asked for: the decoder then leaves work out that resampling
would undo. Sides that the part does not divide are decoded whole, so that no box moves.
"""

from __future__ import annotations

import abc
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from detzoo.data import jpeg
from detzoo.imagefile import (
    MAX_MEGAPIXELS,
    Exif,
    Header,
    ImageFile,
    Size,
    open_image,
    orientation,
    turned,
    upright,
)
from detzoo.types import Detections, Frame, Images

EXIF_WITHIN = 2**18  # bytes in which a JPEG's EXIF block stands
MAX_PIXELS = 2**25  # 33 megapixels, of which a ResNet's first maps take 4 GB
PARTS = (8, 4, 2)  # what libjpeg decodes at one over that at almost no cost


class Picture(NamedTuple):
    """pixels: (H, W, 3) uint8 RGB, the image itself or a smaller one that shows all of it.

    size: (height, width) of the image itself, in whose pixels its boxes are.
    """

    pixels: np.ndarray
    size: Size


def load_image(source: Any, size: Size | None = None, exif: Exif = "auto") -> np.ndarray:
    """(H, W, 3) uint8 RGB of a path, encoded bytes, a PIL image or an (H, W, 3) uint8 RGB array.

    An ImageFile brings `size` and `exif` along. size: the (height, width) that the annotation
    gives; it decides whether a file's EXIF tag turns the image, where `exif` does not (see
    `detzoo.imagefile`), and how many pixels it may have, where that is more than Pillow's limit. A
    PIL image and an array are taken as they are. Raises FileNotFoundError for a path that is not
    there and ValueError for what is no whole image or an array of another form.
    """
    if isinstance(source, ImageFile):
        source, size, exif = source
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(
                f"an image array must be (height, width, 3) uint8 RGB, got {source.shape} "
                f"{source.dtype}; convert it first"
            )
        return source
    if isinstance(source, Image.Image):
        return _rgb(source, "the PIL image")
    if not isinstance(source, bytes | str | Path):
        raise TypeError(
            f"an image is a path, bytes, a PIL image or a uint8 array, got {type(source).__name__}"
        )
    return _load(source, size, None, exif).pixels


def load_picture(
    source: Any, resize: Resize | None, size: Size | None = None, exif: Exif = "auto"
) -> Picture:
    """What `resize` needs of an image: as `load_image`, but a JPEG perhaps at a part of its sides.

    resize: None for the whole image. source, size, exif and errors are those of `load_image`.
    """
    if isinstance(source, ImageFile):
        source, size, exif = source
    if isinstance(source, bytes | str | Path):
        return _load(source, size, resize, exif)
    pixels = load_image(source)
    return Picture(pixels, (pixels.shape[0], pixels.shape[1]))


def _load(
    source: bytes | str | Path, size: Size | None, resize: Resize | None, exif: Exif
) -> Picture:
    where = "the encoded image" if isinstance(source, bytes) else str(source)
    of_data = size is not None  # its annotation gives one
    data = source if isinstance(source, bytes) else _read(Path(source))
    try:
        return _decode(data, where, size, resize, exif)
    except Image.DecompressionBombError as error:
        mend = "cut it into tiles" + ", or raise data.max_megapixels" * of_data
        raise ValueError(f"{where}: too large ({error}); {mend}") from error
    except (OSError, SyntaxError) as error:
        mend = "; restore it, or leave it out of the data set (data.skip)" * of_data
        said = f"not a whole image that can be decoded ({error})"
        raise ValueError(f"{where}: {said}{mend}") from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    return path.read_bytes()


def _decode(
    data: bytes, where: str, told: Size | None, resize: Resize | None, exif: Exif
) -> Picture:
    most = MAX_MEGAPIXELS * 1e6 if told is None else max(MAX_MEGAPIXELS * 1e6, told[0] * told[1])
    # A JPEG's EXIF block stands before its pixels: one that has none is not opened for it.
    bare = jpeg.is_jpeg(data) and b"Exif" not in data[:EXIF_WITHIN]
    image = None if bare else open_image(io.BytesIO(data), most)
    found = image and Header((image.height, image.width), orientation(image))
    turn = found is not None and turned(found, told, exif)
    if jpeg.is_jpeg(data) and not turn:
        decoded = jpeg.decode(data, most, lambda size: _least(resize, size))
        if decoded is not None:
            return Picture(*decoded)
    if image is None:
        image = open_image(io.BytesIO(data), most)
        found = Header((image.height, image.width), 1)
    size = found.upright if turn else found.size
    part = _least(resize, size)
    image.draft(image.mode, part if size != found.size else part[::-1])  # of a JPEG alone
    pixels = _rgb(image, where, found.orientation if turn else 1)
    return Picture(pixels, size)


def _least(resize: Resize | None, size: Size) -> Size:
    """The smallest (height, width) to decode an image of that size at, for that rule."""
    if resize is not None:
        wanted = resize.size(*size)
        for part in PARTS:
            if all(s % part == 0 and s // part >= w for s, w in zip(size, wanted, strict=True)):
                return size[0] // part, size[1] // part
    return size


def _rgb(image: Image.Image, where: str, orientation: int = 1) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"{where}: {image.mode} pixels have more than 8 bits a channel; convert them to 8 bits"
        )
    return np.array(upright(image.convert("RGB"), orientation))


class Resize(abc.ABC):
    """A rule from an image's size to the size that the network sees, and the resampling itself.

    fixed: every batch of as many images has one shape.
    """

    fixed = False

    @abc.abstractmethod
    def size(self, height: int, width: int) -> Size:
        """The resized (height, width), before any padding."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values that tell this rule from every other one, for protocol fingerprints."""

    def __call__(self, image: np.ndarray | Picture, id: int) -> tuple[np.ndarray, Frame]:
        """Resize a Picture or (H, W, 3) uint8; returns it with the Frame that takes boxes back.

        The array may be larger than `frame.resized`: what lies right of it and below is padding.
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
    """To exactly `size`, whatever that does to the aspect ratio: SSD's and YOLO's way.

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


def _tensor(image: np.ndarray) -> Tensor:
    """(3, H, W) view of an (H, W, 3) array."""
    if not image.flags.writeable or min(image.strides) < 0:  # torch takes neither
        image = image.copy()
    return torch.from_numpy(image).permute(2, 0, 1)


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
