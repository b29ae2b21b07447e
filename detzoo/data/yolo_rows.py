"""The rows of a YOLO text file: a class, then a box, a polygon, or a box and more.

    class x y width height                 a box by its centre, in 0..1
    class x1 y1 x2 y2 x3 y3 ...            a polygon, or the four corners of a turned box
    class x y width height kx ky [v] ...   a box with keypoints: `kpt_shape` of data.yaml
    any of these with a confidence, a track's id or both behind it, as predictions are written

What follows a box is left out. Keypoints with a visibility (0, 1 or 2) are recognised by it; those
without look like a polygon, so that only `kpt_shape` distinguishes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detzoo.data import bounds
from detzoo.data.collect import Collector, RawBox
from detzoo.data.parsing import parse_id, parse_number

Keypoints = tuple[int, int]  # how many, and the numbers of each: x, y and perhaps v
Polygons = list[tuple[list[float], str]]  # the numbers of a row and its place
MANY = 16  # rows from which a fit of all of them is no coincidence


def keypoints(content: Mapping[str, Any]) -> Keypoints | None:
    """`kpt_shape` of a data.yaml, None if it has none; ValueError for one that means nothing."""
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    sides = [parse_id(side) for side in shape] if isinstance(shape, list) else []
    if len(sides) != 2 or sides[0] is None or sides[0] < 1 or sides[1] not in (2, 3):
        raise ValueError(f"kpt_shape is {shape!r:.40}; it is [number of keypoints, 2 or 3]")
    return sides[0], sides[1]


def raw_boxes(
    text: str,
    where: str,
    size: tuple[int, int],
    classes: Sequence[str],
    collector: Collector,
    keypoints: Keypoints | None = None,
    polygons: Polygons | None = None,
) -> list[RawBox]:
    """The boxes of an image of `size` (height, width); where: the file, as problems name it.

    keypoints: their form after a box. polygons: a list that rows read as polygons are added to.
    """
    found = []
    height, width = size
    for line, row in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        fields = row.split()
        if not fields:
            continue
        place = f"{where}:{line}"
        values = [parse_number(field) for field in fields]
        box = _box(values, keypoints, place, collector)
        if box is None:
            collector.error(
                "malformed entry",
                place,
                f"{len(values)} fields, {row[:60]!r}; a box has 5, a polygon 7, 9, 11, ...",
                "dropped",
            )
            continue
        if polygons is not None and len(values) >= 7 and box != _centred(values):
            polygons.append((values, place))
        x1, y1, x2, y2 = box
        known = values[0] in range(len(classes))
        label = int(values[0]) if known else None
        name = classes[label] if label is not None else fields[0]
        pixels = (x1 * width, y1 * height, x2 * width, y2 * height)
        written = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        found.append(RawBox(pixels, label, name, place, written=written))
    return found


def ask_about(polygons: Polygons, collector: Collector) -> None:
    """Warn of polygons that look like boxes with keypoints.

    All have the same number of values, and in all the first four are a box inside the image that
    contains the points after it. For polygons, the first two points are not always such a box.
    """
    counts = {len(values) for values, _ in polygons}
    if len(polygons) < MANY or len(counts) > 1 or min(counts) % 2 == 0:
        return
    for values, _ in polygons:
        x1, y1, x2, y2 = _centred(values)
        inside = x1 >= -0.01 and y1 >= -0.01 and x2 <= 1.01 and y2 <= 1.01
        xs, ys = values[5::2], values[6::2]
        if not (inside and x1 <= min(xs) and max(xs) <= x2 and y1 <= min(ys) and max(ys) <= y2):
            return
    number = (min(counts) - 5) // 2
    collector.warning(
        "extra columns",
        polygons[0][1],
        f"all {len(polygons)} rows of {min(counts)} numbers would fit as boxes with keypoints",
        f"taken as polygons; `kpt_shape: [{number}, 2]` in data.yaml makes them boxes",
    )


def _box(
    values: list[float], shape: Keypoints | None, where: str, collector: Collector
) -> bounds.Box | None:
    """A row's box in fractions of the image, None if the row has no form."""
    count = len(values)
    behind = values[5:]
    known = shape is not None and count - 5 - shape[0] * shape[1] in (0, 1, 2)
    if count < 5:
        return None
    if count == 5 or known or (count > 7 and _visible(behind)):
        return _centred(values)
    if count == 6 or (count == 7 and behind[1] > 1 and behind[1].is_integer()):
        collector.note(
            "extra columns",
            where,
            f"{count - 5} behind the box: a confidence or a track's id, as predictions have",
            "left out",
        )
        return _centred(values)
    points = values[1:]
    if count % 2 == 0:
        collector.note(
            "extra columns", where, "one behind a polygon: a confidence or a track's id", "left out"
        )
        points = points[:-1]
    return bounds.around(zip(points[::2], points[1::2], strict=True))


def _visible(behind: Sequence[float]) -> bool:
    """Whether these are keypoints (x, y, v): v is 0, 1 or 2, and a polygon has no 2."""
    flags = behind[2::3]
    return len(behind) % 3 == 0 and set(flags) <= {0, 1, 2} and 2 in flags


def _centred(values: Sequence[float]) -> bounds.Box:
    x, y, width, height = values[1:5]
    if any(map(math.isnan, (x, y, width, height))):
        return (math.nan,) * 4
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
