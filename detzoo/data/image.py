"""Decoding: from a file to pixels.

The orientation of an image, and with it of its boxes, follows the rule in `detzoo.imagefile`.
Arrays are (H, W, 3) uint8 RGB; sizes are (height, width).

A JPEG that is about to be shrunk is decoded at a half, a quarter or an eighth of its sides, if that
is not smaller than the requested size: the decoder then skips work that resampling would undo.
Sides that are not divisible are decoded whole, so that no box moves.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from detzoo.data import jpeg
from detzoo.imagefile import (
    MAX_MEGAPIXELS,
    Exif,
    Header,
    ImageFile,
    Size,
    needs_turning,
    open_image,
    orientation,
    turn_upright,
)

if TYPE_CHECKING:
    from detzoo.data.resize import Resize

EXIF_WITHIN = 2**18  # bytes within which a JPEG's EXIF block starts
PARTS = (8, 4, 2)  # the reductions that libjpeg decodes at almost no cost


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
    there and ValueError for an incomplete image or an array of another form.
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
    """An image for `resize`: as `load_image`, but a JPEG may be decoded at a reduced size.

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
        problem = f"not a whole image that can be decoded ({error})"
        raise ValueError(f"{where}: {problem}{mend}") from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    return path.read_bytes()


def _decode(
    data: bytes, where: str, annotated: Size | None, resize: Resize | None, exif: Exif
) -> Picture:
    most = (
        MAX_MEGAPIXELS * 1e6
        if annotated is None
        else max(MAX_MEGAPIXELS * 1e6, annotated[0] * annotated[1])
    )
    # A JPEG's EXIF block precedes its pixels: a file without one is not opened for it.
    bare = jpeg.is_jpeg(data) and b"Exif" not in data[:EXIF_WITHIN]
    image = None if bare else open_image(io.BytesIO(data), most)
    found = image and Header((image.height, image.width), orientation(image))
    turn = found is not None and needs_turning(found, annotated, exif)
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
    return np.array(turn_upright(image.convert("RGB"), orientation))
