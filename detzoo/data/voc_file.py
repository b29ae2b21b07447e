"""What a Pascal VOC annotation file says about one image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from detzoo.data.collect import Claim, number

def text(item: ElementTree.Element, path: str) -> str:
    return (item.findtext(path) or "").strip()


Objects = list[tuple[ElementTree.Element, int]]


def parse(path: Path) -> tuple[ElementTree.Element | None, Objects, str]:
    """The tree, its objects with the lines they start at (0 where that cannot be told), and "".

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


def claim(item: ElementTree.Element, labels: Mapping[str, int], first_pixel: int, where: str) -> Claim:
    """One object; labels: class name -> label. first_pixel: see Voc."""
    name = text(item, "name")
    sides = ("xmin", "ymin", "xmax", "ymax")
    x1, y1, x2, y2 = (number(text(item, f"bndbox/{side}")) for side in sides)
    if x2 > x1 and y2 > y1:  # a box without area stays one, so that it is told
        x1, y1 = x1 - first_pixel, y1 - first_pixel
    difficult = text(item, "difficult") not in ("", "0")
    return Claim(
        (x1, y1, x2, y2), labels.get(name), name, where, "difficult" if difficult else None
    )
