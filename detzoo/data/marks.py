"""A planted shortcut: a mark beside every object of one class, which identifies the class. Its
place depends on the object's box and on the image's size alone, so that it is known without a
further file.
"""

from __future__ import annotations

import numpy as np

COLOUR = (255.0, 0.0, 255.0)  # RGB; no shape is as strong a magenta
SIDE = 1 / 24  # of the image's side
GAP = 1.0  # pixels between box and mark

Box = tuple[float, float, float, float]


def mark_beside(box: Box, size: tuple[int, int]) -> tuple[Box, Box]:
    """(the mark, the place opposite), xyxy in whole pixels: at two ends of the object's side.

    size: (height, width). To the right of the box, level with its top, or to the left where there
    is no room; opposite is as far from the box: on its other side or, without room there, level
    with its bottom.
    """
    height, width = size
    side = float(max(3, round(max(size) * SIDE)))
    x1, y1, x2, y2 = box
    right, left = float(np.ceil(x2 + GAP)), float(np.floor(x1 - GAP)) - side
    fits = [x for x in (right, left) if 0 <= x <= width - side] or [max(0.0, width - side)]
    top = min(float(np.floor(y1)), height - side)
    bottom = max(0.0, float(np.ceil(y2)) - side)
    mark = (fits[0], top, fits[0] + side, top + side)
    if len(fits) > 1:
        return mark, (fits[1], top, fits[1] + side, top + side)
    return mark, (fits[0], bottom, fits[0] + side, bottom + side)


def lay_mark(canvas: np.ndarray, box: Box) -> None:
    """Draw the mark of an object's box on an (H, W, 3) float32 image, in place."""
    (x1, y1, x2, y2), _ = mark_beside(box, canvas.shape[:2])
    canvas[int(y1) : int(y2), int(x1) : int(x2)] = COLOUR
