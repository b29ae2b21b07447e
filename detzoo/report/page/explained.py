"""The page of explanations: one row an object, one column a detector, one method at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from detzoo.report.figures.fonts import pillow_font
from detzoo.report.figures.palette import styles
from detzoo.report.images.drawing import Box, as_uri, draw, overlay_heatmap
from detzoo.report.images.overlay import dot
from detzoo.report.load.values import clean
from detzoo.report.page.render import environment, file_text

SIDE, QUALITY = 260, 72  # pixels of a picture's longer side; of its JPEG


@dataclass(frozen=True)
class Cell:
    """One detector's answer for an object. box: xyxy in the image's pixels, None without a box
    nearby. maps: method -> (height, width) in [0, 1]. numbers: method -> name -> value."""

    caption: str
    box: tuple[float, float, float, float] | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    numbers: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """An object. image: the whole image, RGB. box: where the surest detector sees the object, xyxy
    in the image's pixels. cells: detector -> Cell."""

    title: str
    image: Image.Image
    box: tuple[float, float, float, float]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Score:
    """A table of the study: one row a detector, one column a method, or one of `columns`. better:
    "high" or "low"."""

    title: str
    better: str
    cells: Mapping[str, Mapping[str, str]]
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Tests:
    """Paired tests. rows: (who less whom, the difference and its interval, p)."""

    title: str
    rows: Sequence[tuple[str, str, str]]


def render_explained(
    *,
    heading: str,
    command: str,
    made: str,
    version: str,
    detectors: Sequence[str],
    methods: Mapping[str, str],
    rows: Sequence[Row],
    sentences: Sequence[str] = (),
    scores: Sequence[Score] = (),
    tests: Sequence[Tests] = (),
    notes: Sequence[str] = (),
    more: Markup | None = None,
) -> str:
    """The HTML, which needs nothing else. methods: name -> title, the first one is shown first.
    more: a part of HTML that comes last."""
    looks = styles(detectors)
    return (
        environment()
        .from_string(file_text("explained.html.j2"))
        .render(
            heading=clean(heading, 300),
            command=clean(command, 4000),
            made=made,
            version=version,
            detectors=[
                {"name": name, "dot": dot(looks[name].colour, looks[name].marker)}
                for name in detectors
            ],
            methods=methods,
            rows=[_row(row, detectors, list(methods)) for row in rows],
            sentences=[clean(text, 1000) for text in sentences],
            scores=scores,
            tests=tests,
            notes=[clean(text, 1000) for text in notes],
            more=more or Markup(),
            style=Markup(file_text("page.css")),
        )
    )


def strip(row: Row, detectors: Sequence[str], method: str, side: int = 120) -> Image.Image:
    """One object by one method, all detectors that have a box side by side: a picture for a text.

    side: of each tile, in pixels; the object without a map comes first.
    """
    small = row.image.resize((side, max(1, round(side * row.image.height / row.image.width))))
    factor = (small.width / row.image.width, small.height / row.image.height)
    tiles = [(row.title.split(" in ")[0], draw(small, [Box(row.box, "")], factor=factor, size=9))]
    for name in detectors:
        cell = row.cells.get(name)
        if cell is not None and cell.box is not None:
            tiles.append((name, _heat(small, cell, method, factor, 9)))
    letters, gap = 13, 4
    width = len(tiles) * (side + gap) - gap
    canvas = Image.new("RGB", (width, small.height + letters + 6), "#ffffff")
    writer = ImageDraw.Draw(canvas)
    for place, (name, tile) in enumerate(tiles):
        left = place * (side + gap)
        writer.text((left, 1), name, font=pillow_font(name, letters), fill="#1b1f24")
        canvas.paste(tile, (left, letters + 6))
    return canvas


def _heat(
    small: Image.Image, cell: Cell, method: str, factor: tuple[float, float], size: int = 5
) -> Image.Image:
    """The small image under a cell's map, with the detector's box in a colour that no heat has."""
    heat = Image.fromarray(cell.maps[method].astype(np.float32)).resize(small.size)
    box = Box(cell.box or (0, 0, 0, 0), "", colour="#6cf3ff")
    return draw(overlay_heatmap(small, np.asarray(heat)), [box], factor=factor, size=size)


def _row(row: Row, detectors: Sequence[str], methods: Sequence[str]) -> dict[str, Any]:
    small = row.image.copy()
    small.thumbnail((SIDE, SIDE))
    factor = (small.width / row.image.width, small.height / row.image.height)
    return {
        "title": clean(row.title, 200),
        "picture": as_uri(draw(small, [Box(row.box, "")], factor=factor, size=5), QUALITY),
        "cells": [_cell(row.cells.get(name), small, factor, methods) for name in detectors],
    }


def _cell(
    cell: Cell | None, small: Image.Image, factor: tuple[float, float], methods: Sequence[str]
) -> dict[str, Any]:
    if cell is None or cell.box is None:
        return {"caption": clean(cell.caption if cell else "not looked at", 200), "pictures": []}
    pictures = []
    for method in methods:
        shown = _heat(small, cell, method, factor)
        numbers = [
            f"{name} {value:.2f}"
            for name, value in cell.numbers.get(method, {}).items()
            if value is not None
        ]
        if not cell.maps[method].any():
            numbers = ["empty map: no pixel raises the score"]
        pictures.append({"method": method, "uri": as_uri(shown, QUALITY), "numbers": numbers})
    return {"caption": clean(cell.caption, 200), "pictures": pictures}
