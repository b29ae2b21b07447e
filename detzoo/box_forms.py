"""The meanings of a box's four numbers, for all forms that programs write.

Arrays are float: boxes (N, 4), sizes (N, 2) heights and widths of their images. The readers of data
sets check whether a file is in its format's form (`data.form_check`, by the images' borders alone),
the scorer of other programs' results determines their form (`metrics.conventions`, by the truth).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.02  # of a side, and a pixel more, that a box may leave its image by


class Form(NamedTuple):
    """corners: of (N, 4) numbers as written, xyxy in the unit, which is of a side where `unit` is a
    number, and a pixel where it is None."""

    name: str
    corners: Callable[[np.ndarray], np.ndarray]
    unit: float | None = None

    def boxes(self, written: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """(N, 4) xyxy in pixels."""
        boxes = self.corners(written)
        return boxes if self.unit is None else boxes * sizes[:, [1, 0, 1, 0]] / self.unit


def _corners(written: np.ndarray) -> np.ndarray:
    return written


def _y_first(written: np.ndarray) -> np.ndarray:
    return written[:, [1, 0, 3, 2]]


def _sized(written: np.ndarray) -> np.ndarray:
    return np.concatenate([written[:, :2], written[:, :2] + written[:, 2:]], 1)


def _centred(written: np.ndarray) -> np.ndarray:
    half = written[:, 2:] / 2
    return np.concatenate([written[:, :2] - half, written[:, :2] + half], 1)


def _all(what: str, unit: float | None) -> tuple[Form, ...]:
    shapes = {
        "[x, y, width, height]": _sized,
        "corners (xyxy, [x1, y1, x2, y2])": _corners,
        "centre and size ([cx, cy, width, height])": _centred,
        "corners with y first ([y1, x1, y2, x2])": _y_first,
    }
    return tuple(Form(f"{name} {what}", corners, unit) for name, corners in shapes.items())


PIXELS = _all("in pixels", None)
FRACTIONS = _all("normalised to 0..1", 1.0)
PERCENT = _all("in percent of the image", 100.0)
XYWH, XYXY = PIXELS[:2]  # of COCO, of VOC
YOLO = FRACTIONS[2]


def leave(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N,) bool: which xyxy boxes leave their images by more than rounding; none of an image whose
    size is NaN."""
    sides = sizes[:, ::-1]
    slack = TOLERANCE * sides + 1
    with np.errstate(invalid="ignore"):
        return ((boxes[:, :2] < -slack) | (boxes[:, 2:] > sides + slack)).any(1)
