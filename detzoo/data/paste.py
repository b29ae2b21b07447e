"""A synthetic object pasted into an image, every pixel of which is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detzoo.data.marks import Box
from detzoo.data.stamps import Array, stamp, touch
from detzoo.data.textures import Rng, fill_stamp

ATTEMPTS = 50  # at finding a free place
GAP = 3.0  # pixels between the pasted object and any other
LARGEST = 0.4  # of the image's shorter side


@dataclass(frozen=True)
class Pasted:
    """pixels: (H, W, 3) uint8, as before except for the object. box: its full extent, xyxy."""

    pixels: Array
    box: Box
    label: int


def paste(
    pixels: Array,
    boxes: Sequence[Box],
    rng: Rng,
    *,
    labels: Sequence[int],
    min_size: float,
    difficulty: float,
) -> Pasted | None:
    """One object more on free ground, of a label drawn from `labels`; None where nothing is free.

    pixels: (H, W, 3) uint8. boxes: xyxy of the existing objects. min_size: of its longer side, in
    pixels. difficulty: of its filling, see `scene.paint`. It is upright, not stretched and wholly
    inside.
    """
    height, width = pixels.shape[:2]
    largest = max(min_size, LARGEST * min(height, width))
    for _ in range(ATTEMPTS):
        label = labels[int(rng.integers(len(labels)))]
        side = math.exp(rng.uniform(math.log(min_size), math.log(largest)))
        x, y = (rng.uniform(side / 2, max(side / 2, edge - side / 2)) for edge in (width, height))
        new = stamp(label, (x, y), (side, side), 0.0, (height, width))
        if new is None or any(touch(new.box, box, GAP) for box in boxes):
            continue
        canvas = pixels.astype(np.float32)
        fill_stamp(rng, canvas, new, difficulty)
        return Pasted(canvas.clip(0, 255).round().astype(np.uint8), new.box, label)
    return None
