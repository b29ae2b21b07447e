"""The same test images side by side: ground truth first, then every detector."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from detzoo.report.figures.fonts import drawable_names, legend
from detzoo.report.figures.palette import COLOURS, Style
from detzoo.report.images.contact import Cell, named_once, sheets
from detzoo.report.images.drawing import TRUTH, Box, as_uri, overlay_heatmap
from detzoo.report.images.overlay import Found, Shape, shapes_of
from detzoo.report.images.photographs import choose, get_list, key_of, photograph, showable
from detzoo.report.load.files import read
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, dig, number, shorten

COUNT, THRESHOLD, SHOWN, SHEET = 4, 0.3, 4, 12


@dataclass(frozen=True)
class Tile:
    """One picture: uri, a JPEG as data URI, or `shapes` over the strip's. note: why there is none,
    or what is left out. hidden: shown on request only."""

    caption: str
    colour: str
    uri: str = ""
    note: str = ""
    marker: str = "o"
    shapes: tuple[Shape, ...] | None = None
    hidden: bool = False


@dataclass(frozen=True)
class Strip:
    """One test image as everybody sees it. uri: the image, a JPEG of `size` (width, height), under
    the shapes of its tiles. key: class number -> name, of the classes on it."""

    name: str
    tiles: tuple[Tile, ...]
    uri: str = ""
    size: tuple[int, int] = (1, 1)
    key: Mapping[int, str] = field(default_factory=dict)


@dataclass
class Gallery:
    strips: list[Strip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sheet:
    """Contact sheets as JPEGs, their images, and the legend of numbers drawn for names."""

    uris: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    legend: str = ""


def gallery(
    runs: Sequence[Run],
    called: Mapping[Run, str],
    styles: Mapping[str, Style],
    *,
    side: int = 640,
    quality: int = 80,
    ids: Sequence[int] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Gallery:
    """Images of the runs' common test split: `ids` in their order, or those of `choose`.

    The first SHOWN detectors are visible at once, the others on request. A detector with several
    seeds shows the first, and a point-based one its heatmaps too. side: the longer side of an image
    in pixels. thresholds: detector -> the lowest score that is drawn, THRESHOLD for others.
    """
    found = Gallery()
    dataset = _dataset(runs, found.notes)
    shown: dict[str, Run] = {}
    for run in runs:
        shown.setdefault(called[run], run)
    records = choose(dataset, COUNT)
    if ids is not None:
        by_id = {key_of(r, "id"): r for r in get_list(dataset, "images") if isinstance(r, dict)}
        records = [by_id[key] for i in ids if (key := ("int", i)) in by_id]
    scores = {name: (thresholds or {}).get(name, THRESHOLD) for name in shown}
    wanted = {record["id"] for record in records}
    boxes_of = {
        name: _predictions(run, dataset, wanted, scores[name], found.notes)
        for name, run in shown.items()
    }
    heat_of = {name: _heatmaps(run) for name, run in shown.items()}
    names = class_names(dataset)
    numbers = {key: number_ for number_, key in enumerate(names, start=1)}
    for record in records:
        name = clean(record.get("file_name", record.get("id")), 200)
        picture = _picture(dataset, record, side)
        if isinstance(picture, str):
            found.strips.append(Strip(name, (Tile(name, "", note=picture),)))
            continue
        image, factor = picture
        shapes = partial(shapes_of, names=names, numbers=numbers, factor=factor, size=image.size)
        truth = tuple(shapes(_truth(dataset, record)))
        tiles = [Tile("ground truth", TRUTH, shapes=truth)]
        for place, (detector, by_image) in enumerate(boxes_of.items()):
            boxes = None if by_image is None else by_image.get(record.get("id"), [])
            tile = _detector_tile(detector, styles[detector], boxes, scores[detector], shapes)
            tiles.append(replace(tile, hidden=place >= SHOWN))
        for detector, of_image in heat_of.items():  # last, so that detectors stay adjacent
            for what, heat in of_image.get(record.get("id"), []):
                uri, style = as_uri(overlay_heatmap(image, heat), quality), styles[detector]
                caption = f"{detector}: {what}"
                tiles.append(Tile(caption, style.colour, uri, "", style.marker, hidden=True))
        seen = {shape.number for tile in tiles for shape in tile.shapes or ()}
        key = {numbers[k]: names[k] for k in names if numbers[k] in seen}
        found.strips.append(Strip(name, tuple(tiles), as_uri(image, quality), image.size, key))
    return found


def _detector_tile(
    name: str,
    style: Style,
    boxes: Sequence[Found] | None,
    score: float,
    shapes: Callable[[Sequence[Found]], Sequence[Shape]],
) -> Tile:
    """A detector's detections in an image. boxes: None if its predictions cannot be read."""
    if boxes is None:
        note = "its predictions cannot be read"
        return Tile(name, style.colour, note=note, marker=style.marker)
    note = "" if boxes else f"nothing of score {score:.3g} or more"
    return Tile(name, style.colour, note=note, marker=style.marker, shapes=tuple(shapes(boxes)))


def sheet(runs: Sequence[Run], *, quality: int = 75) -> Sheet:
    """SHEET images of the test split with their true boxes, as `detzoo check out=` shows them."""
    dataset = _dataset(runs, [])
    classes = class_names(dataset)
    names = list(dict.fromkeys(classes.values()))
    drawn = drawable_names(names)
    looks = {
        key: (drawn[name], COLOURS[place % len(COLOURS)])
        for place, (key, name) in enumerate(classes.items())
    }
    cells = [_cell(dataset, record, looks) for record in choose(dataset, SHEET)]
    uris = tuple(as_uri(image, quality) for image in sheets(cells))
    return Sheet(uris, tuple(cell.caption for cell in cells), legend(names))


def _cell(
    dataset: Mapping[str, Any], record: Mapping[str, Any], looks: Mapping[Any, tuple[str, str]]
) -> Cell:
    """looks: category id -> the label of its boxes, and their colour."""
    name = clean(record.get("file_name", record.get("id")), 200)
    found = photograph(dataset, record)

    def show() -> Image.Image:
        if isinstance(found, str):
            raise ValueError(found)
        return found.image

    if isinstance(found, str):
        return Cell(show, (), name)
    scale = np.tile(np.divide(found.image.size, found.size), 2)
    boxes = []
    for truth in _truth(dataset, record):
        known = isinstance(truth.category, int | str) and truth.category in looks
        text, colour = looks[truth.category] if known else ("?", TRUTH)
        boxes.append(Box(tuple((np.array(truth.xyxy) * scale).tolist()), text, truth.crowd, colour))
    return Cell(show, named_once(boxes), name)


def _picture(
    dataset: Mapping[str, Any], record: Mapping[str, Any], side: int
) -> tuple[Image.Image, tuple[float, float]] | str:
    """The image with its longer side of `side` and its pixels over the original's, or why not.

    Small images grow, or the dots would hide them."""
    found = photograph(dataset, record)
    if isinstance(found, str):
        return found
    size, scale = found.size, side / max(found.size)
    grown = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    image = found.image.resize(grown, Image.Resampling.LANCZOS)
    return image, (grown[0] / size[0], grown[1] / size[1])


def has_no_images(runs: Sequence[Run]) -> bool:
    """Whether no run of a table keeps an image, and no folder was named that has them."""
    dataset = _dataset(runs, [])
    return bool(dataset) and showable(dataset) == set()


def _dataset(runs: Sequence[Run], notes: list[str]) -> dict[str, Any]:
    """From the first run that has images to show, else from the first that has a list of them."""
    found, problem = [], None
    for run in runs:
        if run.external:
            continue
        value, problem = run.dataset()
        if isinstance(value, dict) and isinstance(value.get("images"), list):
            if showable(value) != set():
                return value
            found.append(value)
    if not found:
        notes.append(problem or "no run of this table has a dataset.json with images")
    return found[0] if found else {}


def _truth(dataset: Mapping[str, Any], record: Mapping[str, Any]) -> list[Found]:
    return [
        Found(box, annotation.get("category_id"), None, bool(annotation.get("iscrowd")))
        for annotation in get_list(dataset, "annotations")
        if isinstance(annotation, dict)
        and annotation.get("image_id") == record.get("id")
        and (box := _xyxy(annotation))
    ]


def _predictions(
    run: Run,
    dataset: Mapping[str, Any],
    wanted: Collection[Any],
    threshold: float,
    notes: list[str],
) -> dict[Any, list[Found]] | None:
    """image id -> boxes of at least `threshold` in `wanted`, best first; None if damaged."""
    value, problem = run.results()
    if not isinstance(value, list):
        notes.append(f"{run.path.name}: {problem or 'there is no list in predictions.json'}")
        return None
    found: dict[Any, list[Found]] = {}
    for result in value:
        if not isinstance(result, dict) or number(result, "score") < threshold:
            continue
        image, box, score = result.get("image_id"), _xyxy(result), number(result, "score")
        if isinstance(image, int | str) and image in wanted and box and not math.isnan(score):
            found.setdefault(image, []).append(Found(box, result.get("category_id"), score))
    return {i: sorted(of, key=lambda f: -f.score) for i, of in found.items()}


def _heatmaps(run: Run) -> dict[Any, list[tuple[str, np.ndarray]]]:
    """image id -> name and (h, w) float32 in [0, 1] of each; what cannot be read is left out."""
    rows, _ = read(run.path, "heatmaps.json")
    found: dict[Any, list[tuple[str, np.ndarray]]] = {}
    for row in rows if isinstance(rows, list) else []:
        key, png = key_of(row, "image_id"), dig(row, "png")
        if key is None or not isinstance(png, str):
            continue
        try:
            with Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]) as image:
                heat = np.asarray(image.convert("L"), np.float32) / 255
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        found.setdefault(key[1], []).append((clean(dig(row, "name"), 60), heat))
    return found


def class_names(dataset: Mapping[str, Any]) -> dict[Any, str]:
    """category id -> name. The browser uses its own fonts."""
    return {
        category["id"]: shorten(clean(category.get("name"), 200), 40)
        for category in get_list(dataset, "categories")
        if isinstance(category, dict) and isinstance(category.get("id"), int | str)
    }


def _xyxy(record: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """COCO's [x, y, width, height] as xyxy; None unless it is four numbers with an area."""
    x, y, w, h = (number(record, "bbox", i) for i in range(4))
    return (x, y, x + w, y + h) if w > 0 and h > 0 and x == x and y == y else None
