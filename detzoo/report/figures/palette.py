"""One colour, marker and line style per kind of detector, the same in every figure and every page.

Every colour has a contrast of 3 or more to the page's white and to its dark paper, as WCAG requires
of lines and marks; text is never coloured. For colour-blind readers, the markers and line styles of
all kinds differ too. A second detector of a kind has its colour with another marker and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COLOURS = (
    "#0072b2",  # blue
    "#d55e00",  # vermilion
    "#009473",  # green
    "#c2669b",  # pink
    "#b07a00",  # ochre
    "#3a98d8",  # sky
    "#8a63c9",  # violet
    "#80801f",  # olive
    "#c23a5e",  # wine
    "#7f7f7f",  # grey
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
LINES = ("-", "--", "-.", ":")
# Each kind's place in COLOURS and MARKERS, independent of the page's other detectors
KINDS = (
    *("ssd", "fasterrcnn", "centernet", "retinanet", "yolov3"),
    *("fastrcnn", "yolo", "cornernet", "rcnn"),
)


@dataclass(frozen=True)
class Style:
    colour: str  # #rrggbb
    marker: str  # matplotlib's names
    line: str


def kind(name: str) -> str | None:
    """Of KINDS: `torchvision/faster_rcnn (lr=0.1)` is a fasterrcnn, with any settings."""
    base = re.sub(r"[^a-z0-9]", "", name.partition(" (")[0].lower())
    return next((k for k in sorted(KINDS, key=len, reverse=True) if base.endswith(k)), None)


def styles(names: Iterable[str]) -> dict[str, Style]:
    """name -> style. Names of no kind take, in order, what the kinds on this page leave free."""
    names = list(dict.fromkeys(names))
    kinds = {name: kind(name) for name in names}
    present = {KINDS.index(k) for k in kinds.values() if k}
    free = [i for i in range(len(COLOURS)) if i not in present] or list(range(len(COLOURS)))
    found: dict[str, Style] = {}
    others = 0
    for name in names:
        if known := kinds[name]:
            place = KINDS.index(known)
            before = sum(kinds[other] == known for other in found)
        else:
            place, before = free[others % len(free)], others // len(free)
            others += 1
        step = next(s for s in range(before, before + 99) if _unused(found, place, s))
        found[name] = _style(place, step)
    return found


def _style(place: int, step: int) -> Style:
    marker = MARKERS[(place + 5 * step) % len(MARKERS)]
    return Style(COLOURS[place], marker, LINES[(place + step) % len(LINES)])


def _unused(found: Mapping[str, Style], place: int, step: int) -> bool:
    style = _style(place, step)
    same = any((s.colour, s.marker) == (style.colour, style.marker) for s in found.values())
    return not same or step >= len(MARKERS)
