"""Boxes and heatmaps on images, and images as text that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from detzoo.report.figures.fonts import pillow_font

TRUTH = "#ffffff"


@dataclass(frozen=True)
class Box:
    xyxy: tuple[float, float, float, float]  # original pixels
    text: str
    crowd: bool = False
    colour: str = TRUTH


def draw(
    image: Image.Image,
    boxes: Sequence[Box],
    *,
    factor: tuple[float, float] = (1, 1),
    size: int = 16,
) -> Image.Image:
    """A copy with the boxes, best first; a name that would cover another name is left out.

    factor: the image's pixels over those of the boxes, in x and y. size: of the letters in pixels;
    lines are a fifth as wide.
    """
    image = image.copy()
    canvas = ImageDraw.Draw(image)
    scaled = []
    for box in boxes:
        x1, y1, x2, y2 = (v * factor[i % 2] for i, v in enumerate(box.xyxy))
        x1, x2 = (min(max(x, 0), image.width - 1) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), image.height - 1) for y in (y1, y2))
        scaled.append((x1, y1, x2, y2))
        canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="#000000")
        width = 1 if box.crowd else max(1, size // 5)
        canvas.rectangle((x1, y1, x2, y2), outline=box.colour, width=width)
    taken: list[tuple[float, float, float, float]] = []
    for (x1, y1, _, y2), box in zip(scaled, boxes, strict=True):
        if not box.text:
            continue
        font = pillow_font(box.text, size)
        width, height = canvas.textlength(box.text, font=font) + 6, size + 3
        left = min(max(x1, 0), max(0, image.width - width))
        for top in (y1 - height, y1, y2 - height, y2):
            place = (left, top, left + width, top + height)
            if 0 <= top <= image.height - height and not any(_meet(place, t) for t in taken):
                canvas.rectangle(place, fill=box.colour)
                # by the baseline, which fonts share: their letters begin at different heights
                baseline = (left + 3, top + round(0.93 * size))
                canvas.text(
                    baseline, box.text, font=font, fill=contrasting(box.colour), anchor="ls"
                )
                taken.append(place)
                break
    return image


def overlay_heatmap(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The image, greyed, under (h, w) `heat` in [0, 1], least transparent where hottest."""
    heat = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BILINEAR))
    opacity = np.sqrt(heat.clip(0, 1))[..., None]  # 0.1 is seen too
    grey = np.asarray(image, np.float32).mean(2, keepdims=True)
    colour = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    return Image.fromarray((grey * (1 - opacity) + colour * opacity).round().astype(np.uint8))


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def contrasting(colour: str) -> str:
    """Black or white, whichever reads better on the colour."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * r + 0.587 * g + 0.114 * b > 140 else "#ffffff"


def as_uri(image: Image.Image, quality: int) -> str:
    """A JPEG that is embedded in the page."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
