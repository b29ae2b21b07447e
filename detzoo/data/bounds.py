"""The upright box around what an annotation draws otherwise: polygons, masks, rotated boxes.

Boxes are xyxy, continuous, in the pixels of their source. ValueError says what is wrong with the
shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from detzoo.data.parsing import parse_id, parse_number

Box = tuple[float, float, float, float]


def around(points: Iterable[Sequence[float]]) -> Box:
    """The box of (x, y) points; NaN if one of them is NaN."""
    xs, ys = zip(*points, strict=True)
    if any(map(math.isnan, (*xs, *ys))):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)


def rotated(x: float, y: float, width: float, height: float, angle: float) -> Box:
    """Of a box with that centre and sides, rotated by `angle` radians in either direction."""
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    half_width = (width * cosine + height * sine) / 2
    half_height = (width * sine + height * cosine) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def segmentation(drawing: Any) -> Box:
    """The box of COCO's `segmentation`: polygons, or a mask as run lengths, compressed or not."""
    if isinstance(drawing, dict):
        return mask(drawing)
    if not isinstance(drawing, list) or not drawing:
        raise ValueError("it is empty")
    points = [point for part in _parts(drawing) for point in part]
    if not points:
        raise ValueError("it is empty")
    return around(points)


def _parts(drawing: list[Any]) -> list[list[tuple[float, float]]]:
    """Polygons as lists of points, of [x, y, x, y, ...], of [[x, y], ...] or of lists of these."""
    if not any(isinstance(entry, list) for entry in drawing):
        values = [parse_number(entry) for entry in drawing]
        if len(values) % 2:
            raise ValueError(f"a polygon has {len(values)} numbers, which are no pairs")
        return [list(zip(values[::2], values[1::2], strict=True))]
    return [points for entry in drawing if isinstance(entry, list) for points in _parts_of(entry)]


def _parts_of(entry: list[Any]) -> list[list[tuple[float, float]]]:
    if any(isinstance(value, list) and any(isinstance(v, list) for v in value) for value in entry):
        raise ValueError("its polygons lie deeper than lists of points")
    return _parts(entry) if entry else []


def mask(drawing: dict[str, Any]) -> Box:
    """The box of a mask {"size": [height, width], "counts": runs down the columns, zeros first}.

    counts: a list of lengths, or COCO's text of them.
    """
    counts, size = drawing.get("counts"), drawing.get("size")
    sides = [parse_id(side) for side in size] if isinstance(size, list) else []
    if len(sides) != 2 or any(side is None or side < 1 for side in sides):
        raise ValueError(f"its size is {size!r:.40}, not [height, width]")
    height, width = sides
    runs = _decoded(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(
        parse_id(run) is None or parse_id(run) < 0 for run in runs
    ):
        raise ValueError("its counts are neither lengths nor COCO's text of them")
    left, top, right, bottom = width, height, 0, 0
    position = 0
    for index, run in enumerate(map(int, runs)):
        first, last = position, position + run - 1  # pixels, counted down the columns
        position += run
        if index % 2 == 0 or not run or first >= height * width:
            continue
        left, right = min(left, first // height), max(right, last // height + 1)
        if first // height == last // height:
            top, bottom = min(top, first % height), max(bottom, last % height + 1)
        else:  # it runs through the border of a column
            top, bottom = 0, height
    if position != height * width:
        raise ValueError(f"its counts are of {position} pixels, its size of {height * width}")
    if right <= left:
        raise ValueError("it is empty")
    return float(left), float(top), float(right), float(bottom)


def _decoded(text: str) -> list[int]:
    """The run lengths that COCO's compressed text holds.

    Five bits per character from code 48 on, least significant first; 32 means that more follow, and
    the highest bit of the last is the sign. From the fourth length on, each is the difference from
    the one two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("its counts are neither lengths nor COCO's text of them")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its counts end within a length")
    return runs
