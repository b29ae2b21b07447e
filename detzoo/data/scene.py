"""A synthetic picture: shapes on a textured ground, with their boxes.

Classes differ by their outline alone: colour, texture, size, aspect and rotation come from the same
distributions for all of them. Everything is drawn by one generator, so a scene is a pure function
of its parameters and of that generator's seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detzoo.data.marks import lay_mark
from detzoo.data.stamps import CLASSES, Array, Stamp, stamp, touch
from detzoo.data.textures import Rng, draw_distractor, fill_stamp, finish, paint_ground

MAX_ASPECT = 3.0
MAX_HIDDEN = 0.5  # of an object, by those drawn over it and by the image's border together
ATTEMPTS = 12  # at placing one object before it is left out


@dataclass(frozen=True)
class Scene:
    """pixels: (H, W, 3) uint8. boxes: xyxy of the objects' full extent inside the image."""

    pixels: Array
    boxes: list[tuple[float, float, float, float]]
    labels: list[int]
    crowd: list[bool]


def paint(
    rng: Rng,
    *,
    size: int,
    objects: tuple[int, int],
    min_size: float,
    difficulty: float,
    crowd_rate: float,
    empty_rate: float,
    classes: Sequence[int] = tuple(range(len(CLASSES))),
    marked: int | None = None,
    marked_as: int | None = None,
) -> Scene:
    """A square scene of `size` pixels with objects[0] to objects[1] objects, all numbers alike.

    min_size: the smallest longer side before rotation; the largest is half of `size`. difficulty:
    0 (upright and not stretched, plain ground, full contrast, no distractors, blur or noise) to 1;
    from 0.5 on forms are turned by any angle and stretched up to 1:3. crowd_rate, empty_rate: the
    parts of all scenes with a crowd region and without objects (the latter where objects[0] is 0).
    classes: those that are drawn, by their place in CLASSES; marked: the one of them beside whose
    objects a mark is laid (`detzoo.data.marks`), over an image that is otherwise the same;
    marked_as: the class whose form these objects have.
    """
    low, high = objects
    canvas = paint_ground(rng, size, difficulty)
    for _ in range(rng.poisson(4 * difficulty)):
        draw_distractor(rng, canvas)
    count = int(rng.integers(max(low, 1), high + 1))
    if low == 0 and rng.random() < empty_rate:
        count = 0
    boxes, labels, crowd = [], [], []
    covered: list[list] = []  # per object: stamp, its alpha still to be seen, half of its area
    if count and rng.random() < crowd_rate:
        box, label = _crowd(rng, canvas, min_size, difficulty, classes)
        boxes.append(box)
        labels.append(label)
        crowd.append(True)
        count = min(count, 3)
    # The larger ones first, so that the smaller ones are not buried.
    sides = np.exp(rng.uniform(math.log(min_size), math.log(size / 2), count))
    for side in sorted(sides, reverse=True):
        label = classes[int(rng.integers(len(classes)))]
        form = marked_as if marked_as is not None and label == marked else label
        stamp = _place(
            rng, form, side, min_size, difficulty, canvas, covered, boxes if any(crowd) else []
        )
        if stamp is not None:
            fill_stamp(rng, canvas, stamp, difficulty)
            boxes.append(stamp.box)
            labels.append(label)
            crowd.append(False)
    for box, label, many in zip(boxes, labels, crowd, strict=True):
        if label == marked and not many:
            lay_mark(canvas, box)
    return Scene(finish(rng, canvas, difficulty), boxes, labels, crowd)


def _place(
    rng: Rng,
    label: int,
    side: float,
    min_size: float,
    difficulty: float,
    canvas: Array,
    covered: list[list],
    kept_free: list[tuple[float, float, float, float]],
) -> Stamp | None:
    """A stamp that hides no more than half of any object; None if no attempt found one."""
    height, width = canvas.shape[:2]
    freedom = min(1.0, 2 * difficulty)  # of the form: any turn and any aspect from 0.5 on
    aspect = math.exp(rng.uniform(0, freedom * math.log(MAX_ASPECT)))
    short = max(side / aspect, min(side, 0.8 * min_size))  # thinner ones would be indistinguishable
    sides = (side, short) if rng.random() < 0.5 else (short, side)
    for _ in range(ATTEMPTS):
        centre = (rng.uniform(0, width), rng.uniform(0, height))
        new = stamp(label, centre, sides, freedom * rng.uniform(-math.pi, math.pi), (height, width))
        if new is None or new.inside < 1 - MAX_HIDDEN / 2:
            continue
        if any(touch(new.box, box) for box in kept_free[:1]):
            continue
        left = [seen[new.rows, new.columns] * (1 - new.alpha) for _, seen, _ in covered]
        if all(
            seen.sum() - seen[new.rows, new.columns].sum() + rest.sum() >= least
            for (_, seen, least), rest in zip(covered, left, strict=True)
        ):
            for (_, seen, _), rest in zip(covered, left, strict=True):
                seen[new.rows, new.columns] = rest
            seen = np.zeros((height, width), np.float32)
            seen[new.rows, new.columns] = new.alpha
            covered.append([new, seen, seen.sum() / new.inside * (1 - MAX_HIDDEN)])
            return new
    return None


def _crowd(
    rng: Rng, canvas: Array, min_size: float, difficulty: float, classes: Sequence[int]
) -> tuple[tuple[float, float, float, float], int]:
    """Many small objects of one class, so dense that they would not be boxed one by one."""
    height, width = canvas.shape[:2]
    label = classes[int(rng.integers(len(classes)))]
    extent = np.array([width, height]) * rng.uniform(0.25, 0.4, 2)
    corner = rng.uniform(0, 1, 2) * (np.array([width, height]) - extent)
    drawn = []
    for _ in range(int(rng.integers(14, 24))):
        side = min_size * rng.uniform(0.8, 1.3)
        place = corner + rng.uniform(0, 1, 2) * extent
        new = stamp(label, tuple(place), (side, side), rng.uniform(0, 6.3), (height, width))
        if new is not None:
            fill_stamp(rng, canvas, new, difficulty)
            drawn.append(new.box)
    array = np.array(drawn)
    return (*array[:, :2].min(0).tolist(), *array[:, 2:].max(0).tolist()), label
