"""The content of a Pascal VOC annotation file, for one image."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from detzoo.data import bounds
from detzoo.data.collect import Collector, RawBox
from detzoo.data.parsing import parse_number

SIDES = ("xmin", "ymin", "xmax", "ymax")


def text(item: ElementTree.Element, path: str) -> str:
    return (item.findtext(path) or "").strip()


Objects = list[tuple[ElementTree.Element, int]]


def parse(path: Path) -> tuple[ElementTree.Element | None, Objects, str]:
    """The tree, its objects with the lines they start at (0 where unknown), and "".

    An annotation that is no XML gives None, no objects and the reason.
    """
    data = path.read_bytes()
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return None, [], f"not valid XML ({error})"
    objects = tree.findall("object")
    lines = [data.count(b"\n", 0, m.start()) + 1 for m in re.finditer(rb"<object[\s>/]", data)]
    if len(lines) != len(objects):  # some are commented out
        lines = [0] * len(objects)
    return tree, list(zip(objects, lines, strict=True)), ""


def raw_box(
    item: ElementTree.Element,
    labels: Mapping[str, int],
    first_pixel: int,
    where: str,
    collector: Collector,
) -> RawBox | None:
    """One object; None and a noted error if it has no box.

    labels: name -> label. first_pixel: see Voc.
    Without a <bndbox> it is the upright box around its <polygon> or <robndbox>.
    """
    name = text(item, "name")
    written = [parse_number(text(item, f"bndbox/{side}")) for side in SIDES]
    if item.find("bndbox") is None or not any(text(item, f"bndbox/{side}") for side in SIDES):
        drawn = _drawn(item)
        if drawn is None:
            what = f"{name} has no bndbox with xmin, ymin, xmax, ymax, and no polygon or robndbox"
            collector.error("malformed entry", where, what, "dropped")
            return None
        kind, written = drawn
        collector.note(
            f"{kind} box" if kind == "rotated" else "mask without box",
            where,
            f"an object has a {kind} outline and no bndbox",
            "the upright box around it",
        )
    x1, y1, x2, y2 = written
    degrees = _rotation(item)
    if degrees % 180 and x2 > x1 and y2 > y1:
        x1, y1, x2, y2 = bounds.rotated(
            (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, math.radians(degrees)
        )
        collector.note("rotated box", where, "an object is turned", "the upright box around it")
    if x2 > x1 and y2 > y1:  # a box without area stays one, so that it is noted
        x1, y1 = x1 - first_pixel, y1 - first_pixel
    difficult = collector.flag(text(item, "difficult"), "difficult", where)
    return RawBox(
        (x1, y1, x2, y2), labels.get(name), name, where, difficult, written=tuple(written)
    )


def _drawn(item: ElementTree.Element) -> tuple[str, bounds.Box] | None:
    """The shape of an object without bndbox, and the upright box around it."""
    polygon, turned = item.find("polygon"), item.find("robndbox")
    if polygon is not None and (points := _points(polygon)):
        return "polygon", bounds.around(points)
    if turned is not None:  # roLabelImg's; the angle is in radians
        values = [parse_number(text(turned, side)) for side in ("cx", "cy", "w", "h", "angle")]
        if all(map(math.isfinite, values)):
            return "rotated", bounds.rotated(*values)
    return None


def _points(polygon: ElementTree.Element) -> list[tuple[float, float]]:
    """Of <x1><y1><x2><y2>... (Roboflow), <pt><x><y> (LabelMe), or <x><y><x><y>..."""
    xs = [parse_number(e.text) for e in polygon.iter() if re.fullmatch(r"x\d*", str(e.tag))]
    ys = [parse_number(e.text) for e in polygon.iter() if re.fullmatch(r"y\d*", str(e.tag))]
    return list(zip(xs, ys, strict=True)) if len(xs) == len(ys) else []


def _rotation(item: ElementTree.Element) -> float:
    """Degrees by which CVAT has rotated a box, whose bndbox it writes unrotated."""
    for attribute in item.iterfind("attributes/attribute"):
        if text(attribute, "name") == "rotation":
            degrees = parse_number(text(attribute, "value"))
            return degrees if math.isfinite(degrees) else 0.0
    return 0.0
