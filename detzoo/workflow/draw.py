"""Detections on the image that they were found in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.colors import to_hex
from PIL import Image

from detzoo.data import load_image
from detzoo.report.figures.fonts import drawable_names
from detzoo.report.images.drawing import Box
from detzoo.report.images.drawing import draw as draw_boxes
from detzoo.types import Detections


def draw(
    image: Any,
    detections: Detections,
    *,
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.0,
) -> Image.Image:
    """A copy of the image with boxes, class names and scores, coloured by class.

    image: a path, a PIL image or an (H, W, 3) uint8 RGB array, of the size that the boxes are for.
    class_names: instead of the detections' own. Raises ValueError for anything but an image.
    """
    pixels = load_image(image)
    names = list(class_names or detections.class_names or ())
    drawn = drawable_names(names)
    boxes = []
    rows = zip(
        detections.boxes.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        strict=True,
    )
    for box, score, label in rows:
        if score >= score_threshold:
            name = drawn[names[label]] if names else str(label)
            boxes.append(Box(tuple(box), f"{name} {score:.2f}", colour=to_hex(f"C{label % 10}")))
    return draw_boxes(Image.fromarray(pixels), boxes, size=max(11, max(pixels.shape[:2]) // 50))
