"""The rows of a YOLO text file."""

from __future__ import annotations

from collections.abc import Sequence

from detzoo.data.collect import Claim, Collector, number


def claims(
    text: str, where: str, size: tuple[int, int], classes: Sequence[str], collector: Collector
) -> list[Claim]:
    """The boxes of an image of `size` (height, width); where: the file, as problems name it."""
    found = []
    for line, row in enumerate(text.splitlines(), 1):
        fields = row.split()
        if not fields:
            continue
        values = [number(field) for field in fields]
        polygon = len(values) >= 7 and len(values) % 2 == 1
        if len(values) != 5 and not polygon:
            collector.error(
                "malformed entry",
                f"{where}:{line}",
                f"{len(values)} fields, {row[:60]!r}; a box has 5, a polygon 7, 9, 11, ...",
                "dropped",
            )
            continue
        height, width = size
        if polygon:
            xs, ys = values[1::2], values[2::2]
            x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
            if any(v != v for v in values):
                x1 = float("nan")
        else:
            _, x, y, w, h = values
            x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        known = values[0] in range(len(classes))
        label = int(values[0]) if known else None
        name = classes[label] if label is not None else fields[0]
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        found.append(Claim(box, label, name, f"{where}:{line}"))
    return found
