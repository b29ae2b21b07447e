"""The page's own SVG: boxes over a picture, and the markers before names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle

from detzoo.report.figures.overview import text_on

DOT = 0.027  # its radius over the longer side of the picture


@dataclass(frozen=True)
class Shape:
    """A box over a picture, in its pixels. number: of its class in the strip's key. dot: whether
    there is room for that number at its corner."""

    x: float
    y: float
    width: float
    height: float
    number: int
    title: str
    crowd: bool = False
    dot: bool = True


class Found(NamedTuple):
    """A box in original pixels, true or detected. score: None where it is true."""

    xyxy: tuple[float, float, float, float]
    category: Any
    score: float | None = None
    crowd: bool = False


def shapes_of(
    boxes: Sequence[Found],
    names: Mapping[Any, str],
    numbers: Mapping[Any, int],
    factor: tuple[float, float],
    size: tuple[int, int],
) -> Iterator[Shape]:
    """Boxes, best first, over a picture of `size`; a dot that would cover another is left out."""
    radius = DOT * max(size)
    taken: list[tuple[float, float]] = []
    for xyxy, category, score, crowd in boxes:
        x1, y1, x2, y2 = (
            round(min(max(v * factor[i % 2], 0), size[i % 2]), 1) for i, v in enumerate(xyxy)
        )
        corner = min(max(x1, radius), size[0] - radius), min(max(y1, radius), size[1] - radius)
        room = all(math.dist(corner, other) > 2 * radius for other in taken)
        taken += [corner] * room
        title = names.get(category, "?") if isinstance(category, int | str) else "?"
        title += " (crowd)" * crowd if score is None else f" {score:.2f}"
        number_ = numbers.get(category, 0) if isinstance(category, int | str) else 0
        yield Shape(x1, y1, x2 - x1, y2 - y1, number_, title, crowd, room)


def dot(colour: str, marker: str = "o") -> Markup:
    """A figure's marker, to put before a name in the text."""
    shape = MarkerStyle(marker)
    path = shape.get_path().transformed(shape.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C"}
    parts = []
    for points, code in path.iter_segments(curves=True):
        numbers = " ".join(f"{10 * (-y if i % 2 else y):.1f}" for i, y in enumerate(points))
        parts.append("Z" if code == 79 else f"{letters[code]}{numbers}")
    drawn = f'<path d="{"".join(parts)}" fill="{colour}"/>'
    return Markup(f'<svg class="dot" viewBox="-6 -6 12 12" aria-hidden="true">{drawn}</svg>')


def overlay(shapes: Sequence[Shape], colour: str, size: tuple[int, int]) -> Markup:
    """Boxes as thin lines and its numbers as dots, over a picture of `size`."""
    radius = round(DOT * max(size), 1)
    ink = text_on(to_rgb(colour))
    parts, dots = [], []
    for s in shapes:
        box = f'x="{s.x:g}" y="{s.y:g}" width="{s.width:g}" height="{s.height:g}"'
        crowd = " crowd" * s.crowd
        parts.append(Markup('<rect class="under" {}/>').format(Markup(box)))
        rect = f'<rect class="shape{crowd}" stroke="{colour}" {box}><title>{{}}</title></rect>'
        parts.append(Markup(rect).format(s.title))
        if s.dot and s.number:
            x = min(max(s.x, radius), size[0] - radius)
            y = min(max(s.y, radius), size[1] - radius)
            letters = 1.5 * radius if s.number < 100 else 1.1 * radius
            dots.append(
                f'<circle cx="{x:g}" cy="{y:g}" r="{radius}" fill="{colour}" stroke="{ink}"/>'
                f'<text x="{x:g}" y="{y + 0.36 * letters:.1f}" font-size="{letters:.1f}" '
                f'text-anchor="middle" fill="{ink}">{s.number}</text>'
            )
    return Markup("").join([*parts, Markup("".join(dots))])
