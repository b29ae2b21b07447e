"""The header of an image file: its size and orientation, read without decoding.

One rule about orientation: an image is turned as its EXIF tag says, as every viewer, browser and
OpenCV show it and as its boxes were therefore drawn, unless its annotation gives its width and
height as they are stored, where the turned ones differ. `exif` overrides that: "upright" always
turns, "stored" never does. Free of torch: reports show images by the same rule.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from PIL import Image

Size = tuple[int, int]
Exif = Literal["auto", "upright", "stored"]
EXIF = get_args(Exif)
EXIF_ORIENTATION = 0x0112
ON_ITS_SIDE = (5, 6, 7, 8)  # the orientations that swap width and height
# What Pillow raises, sooner or later, for a file that is no whole image.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, OverflowError, struct.error),
    Image.DecompressionBombError,
)
TURNS = {  # EXIF orientation -> what shows the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# From here on Pillow takes an image for an attack.
MAX_MEGAPIXELS = 2 * (Image.MAX_IMAGE_PIXELS or float("inf")) / 1e6

_limit = threading.Lock()


class ImageFile(NamedTuple):
    """An encoded image with its data set's annotation of orientation, so that it is decoded to the
    pixels of its boxes.

    source: its path, or its bytes. size: the annotation's (height, width), None without one.
    """

    source: str | Path | bytes
    size: Size | None = None
    exif: Exif = "auto"


class Header(NamedTuple):
    """size: (height, width) as stored. orientation: EXIF's, 1 for none."""

    size: Size
    orientation: int

    @property
    def upright(self) -> Size:
        return self.size[::-1] if self.orientation in ON_ITS_SIDE else self.size


def open_image(file: Any, pixels: float | None = None) -> Image.Image:
    """Pillow's `Image.open`; pixels: how many an image may have, if more than Pillow allows.

    Image.DecompressionBombError for one that has more.
    """
    with _limit:
        allowed = Image.MAX_IMAGE_PIXELS
        if allowed is not None and pixels is not None and pixels > allowed:
            Image.MAX_IMAGE_PIXELS = None  # Pillow has this one setting for all threads
            try:
                image = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = allowed
            if image.width * image.height > pixels:
                raise Image.DecompressionBombError(
                    f"{image.width} x {image.height} pixels are more than the {pixels:.0f} allowed"
                )
            return image
    return Image.open(file)


def header(file: Any) -> Header:
    """The header of an image of any size. Raises what Pillow raises for other files."""
    with open_image(file, float("inf")) as image:
        return Header((image.height, image.width), orientation(image))


def orientation(image: Image.Image) -> int:
    """1 to 8 by the EXIF tag; 1, which turns nothing, without a tag or with an invalid one."""
    if "exif" not in image.info:  # of a TIFF as well, which Pillow itself turns
        return 1
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a broken EXIF block raises all sorts of errors, and is ignored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def needs_turning(found: Header, annotated: Size | None = None, exif: Exif = "auto") -> bool:
    """Whether to turn the image upright; annotated: the annotation's (height, width)."""
    if found.orientation == 1 or exif == "stored":
        return False
    return exif == "upright" or not (annotated == found.size != found.upright)


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned by an EXIF orientation, 1 to 8."""
    return image if orientation == 1 else image.transpose(TURNS[orientation])
