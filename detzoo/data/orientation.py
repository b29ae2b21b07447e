"""In which orientation boxes fit images with an EXIF tag, measured on their pixels.

An object differs from what is around it. So the colour inside each box is compared to the colour of
a ring around it, once in the image as its boxes are read and once in the image turned the other
way, with the same numbers in the annotation. One image shows little, many show a tendency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detzoo.data.dataset import Sample
from detzoo.data.image import load_image
from detzoo.imagefile import UNREADABLE, Header, header, needs_turning

MOST_IMAGES = 50
CHANCE = 0.02  # of as many images for the other way, if each of the two were equally likely


class OrientationFit(NamedTuple):
    """In how many images the boxes fit better as they are read than the other way, `exif`."""

    as_read: int
    images: int
    exif: str

    @property
    def verdict(self) -> bool | None:
        """Whether they are read the right way; None where too few images decide."""
        few = min(self.as_read, self.images - self.as_read)
        chance = sum(math.comb(self.images, k) for k in range(few + 1)) / 2**self.images
        return None if chance > CHANCE else self.as_read > self.images / 2


def measure_orientation(samples: Sequence[Sample], *, in_fractions: bool) -> OrientationFit:
    """The fit of those images among these that have an orientation.

    in_fractions: whether the annotations' numbers are fractions of the image's sides, so that a box
    is another one where the sides are swapped.
    """
    better, count, other = 0, 0, "stored"
    for sample in samples:
        if count == MOST_IMAGES:
            break
        try:
            found = header(sample.path)
            if found.orientation == 1 or not len(sample.boxes):
                continue
            turns = needs_turning(found, sample.size, sample.exif)
            way = "stored" if turns else "upright"
            values = _contrasts(sample, found, turns, way, in_fractions)
        except UNREADABLE:
            continue
        other = way
        count += 1
        better += values[0] > values[1]
    return OrientationFit(better, count, other)


def _contrasts(
    sample: Sample, found: Header, turns: bool, way: str, in_fractions: bool
) -> tuple[float, float]:
    """The contrast of the boxes as they are read, and the other way."""
    boxes = sample.boxes.numpy()
    size = found.size if turns else found.upright
    scale = np.ones(4)
    if in_fractions:
        scale = np.array([size[1] / sample.size[1], size[0] / sample.size[0]] * 2)
    as_read = load_image(sample.image)
    return contrast(as_read, boxes), contrast(load_image(sample.path, size, way), boxes * scale)


def contrast(pixels: np.ndarray, boxes: np.ndarray) -> float:
    """Mean distance of the mean colours inside boxes and in rings around them; 0 for none."""
    height, width = pixels.shape[:2]
    totals = np.zeros((height + 1, width + 1, 3))
    totals[1:, 1:] = pixels.astype(np.float64).cumsum(0).cumsum(1)

    def total(box: np.ndarray) -> tuple[np.ndarray, int]:
        x1, x2 = np.clip(np.round(box[[0, 2]]), 0, width).astype(int)
        y1, y2 = np.clip(np.round(box[[1, 3]]), 0, height).astype(int)
        inside = totals[y2, x2] - totals[y1, x2] - totals[y2, x1] + totals[y1, x1]
        return inside, max(0, x2 - x1) * max(0, y2 - y1)

    distances = []
    for box in boxes.astype(np.float64):
        margin = np.array([box[2] - box[0], box[3] - box[1]]) / 4
        inner, of_inner = total(box)
        outer, of_outer = total(np.concatenate([box[:2] - margin, box[2:] + margin]))
        if 0 < of_inner < of_outer:
            ring = (outer - inner) / (of_outer - of_inner)
            distances.append(np.abs(inner / of_inner - ring).mean())
    return float(np.mean(distances)) if distances else 0.0
