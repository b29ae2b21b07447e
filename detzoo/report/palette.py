"""One colour, marker and line style per detector, the same in every figure and picture.

Okabe and Ito's colours first (https://jfly.uni-koeln.de/color/), their yellow and black left out:
one vanishes on white paper, the other on a dark page; then others that stay apart from them.
Markers and line styles repeat with other periods: no two of the first 60 detectors look alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = (
    "#0072b2",  # blue
    "#d55e00",  # vermilion
    "#009e73",  # green
    "#cc79a7",  # pink
    "#e69f00",  # orange
    "#56b4e9",  # sky
    "#8a63c9",  # violet
    "#999933",  # olive
    "#a3244f",  # wine
    "#808080",  # grey
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Style:
    colour: str  # #rrggbb
    marker: str  # matplotlib's names
    line: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """name -> style, by the order of first appearance."""
    return {
        name: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)])
        for i, name in enumerate(dict.fromkeys(names))
    }
