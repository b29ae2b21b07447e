"""The same test images side by side: ground truth first, then every detector."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detzoo import imagefile
from detzoo.report.figures.palette import Style
from detzoo.report.images.drawing import TRUTH, as_uri, heated
from detzoo.report.images.overlay import Found, Shape, shapes_of
from detzoo.report.load.runs import Run, clean, dig, number, read, shorten

COUNT, THRESHOLD, SHOWN, SHEET = 4, 0.3, 4, 12


@dataclass(frozen=True)
class Tile:
    """One picture: uri, a JPEG as data URI, or `shapes` over the strip's. note: why there is none,
    or what is not seen. hidden: shown on request only."""

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
    key: dict[int, str] = field(default_factory=dict)  # of a contact sheet, as Strip's


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

    The first SHOWN detectors are seen at once and the others on request. A detector with several
    seeds shows its first one, and one that looks for points its heatmaps too. side: the longer side
    of an image in pixels. thresholds: detector -> the score from which it is drawn, THRESHOLD for
    others.
    """
    found = Gallery()
    dataset = _dataset(runs, found.notes)
    shown: dict[str, Run] = {}
    for run in runs:
        shown.setdefault(called[run], run)
    records = choose(dataset)
    if ids is not None:
        by_id = {_key(r, "id"): r for r in _list(dataset, "images") if isinstance(r, dict)}
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

        def shapes(found: Sequence[Found], image=image, factor=factor) -> tuple[Shape, ...]:
            return tuple(shapes_of(found, names, numbers, factor, image.size))

        tiles = [Tile("ground truth", TRUTH, shapes=shapes(_truth(dataset, record)))]
        for place, (detector, by_image) in enumerate(boxes_of.items()):
            style, hidden = styles[detector], place >= SHOWN
            look: dict[str, Any] = {"marker": style.marker, "hidden": hidden}
            if by_image is None:
                note = "its predictions cannot be read"
                tiles.append(Tile(detector, style.colour, note=note, **look))
            else:
                boxes = by_image.get(record.get("id"), [])
                note = "" if boxes else f"nothing of score {scores[detector]:.3g} or more"
                drawn = shapes(boxes)
                tiles.append(Tile(detector, style.colour, note=note, shapes=drawn, **look))
        for detector, of_image in heat_of.items():  # last: nothing stands between the detectors
            for what, heat in of_image.get(record.get("id"), []):
                uri, style = as_uri(heated(image, heat), quality), styles[detector]
                caption = f"{detector}: {what}"
                tiles.append(Tile(caption, style.colour, uri, "", style.marker, hidden=True))
        seen = {shape.number for tile in tiles for shape in tile.shapes or ()}
        key = {numbers[k]: names[k] for k in names if numbers[k] in seen}
        found.strips.append(Strip(name, tuple(tiles), as_uri(image, quality), image.size, key))
    return found


def sheet(runs: Sequence[Run], *, side: int = 260, quality: int = 75) -> Gallery:
    """A contact sheet of the data: SHEET images of the test split with their true boxes."""
    found = Gallery()
    dataset = _dataset(runs, found.notes)
    names = class_names(dataset)
    numbers = {key: number_ for number_, key in enumerate(names, start=1)}
    for record in choose(dataset, SHEET):
        name = clean(record.get("file_name", record.get("id")), 200)
        picture = _picture(dataset, record, side)
        if isinstance(picture, str):
            found.strips.append(Strip(name, (Tile(name, "", note=picture),)))
            continue
        image, factor = picture
        shapes = tuple(shapes_of(_truth(dataset, record), names, numbers, factor, image.size))
        seen = {shape.number for shape in shapes}
        found.key |= {numbers[k]: names[k] for k in names if numbers[k] in seen}
        uri, tile = as_uri(image, quality), Tile(name, TRUTH, shapes=shapes)
        found.strips.append(Strip(name, (tile,), uri, image.size))
    return found


def _picture(
    dataset: Mapping[str, Any], record: Mapping[str, Any], side: int
) -> tuple[Image.Image, tuple[float, float]] | str:
    """The image with its longer side of `side` and its pixels over the original's, or why not.

    Small images grow, or the dots would hide them."""
    image, problem = open_image(dataset, record)
    if image is None:
        return problem
    size, scale = image.size, side / max(image.size)
    grown = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    image = image.resize(grown, Image.Resampling.LANCZOS)
    return image, (grown[0] / size[0], grown[1] / size[1])


def choose(dataset: Mapping[str, Any], count: int = COUNT) -> list[dict[str, Any]]:
    """`count` image records, evenly spaced by the number of their boxes (and by id among equals)
    among those with boxes, or among all if none has: from few objects to many."""
    records = [r for r in _list(dataset, "images") if isinstance(r, dict) and _key(r, "id")]
    boxes = Counter(_key(annotation, "image_id") for annotation in _list(dataset, "annotations"))
    records = [r for r in records if boxes[_key(r, "id")]] or records
    records.sort(key=lambda r: (boxes[_key(r, "id")], _key(r, "id")))
    step = len(records) / count
    return records if step <= 1 else [records[int(step * (i + 0.5))] for i in range(count)]


def inside(root: Path, name: str) -> Path | None:
    """root/name, or None if that leaves root: a file list must not reach the rest of a disk."""
    path = (root / name).resolve()
    return path if path.is_relative_to(root.resolve()) else None


def open_image(
    dataset: Mapping[str, Any], record: Mapping[str, Any]
) -> tuple[Image.Image | None, str]:
    """The record's image as RGB, as stored (or upright where the annotation is so), or why not."""
    root, name = dataset.get("root"), record.get("file_name")
    if not isinstance(root, str) or not isinstance(name, str):
        return None, "dataset.json does not say where the image is"
    try:
        path = inside(Path(root), name)
        if path is None:
            return None, "refused: its path leaves the data set's folder"
        if path.suffix.lower() not in Image.registered_extensions() or not path.is_file():
            # Whoever wrote dataset.json says where to read: nothing but images is opened for that.
            return None, "the image file is not there"
        size = (number(record, "height"), number(record, "width"))
        with imagefile.open_image(path) as image:
            found = imagefile.Header((image.height, image.width), imagefile.orientation(image))
            exif = record["exif"] if record.get("exif") in imagefile.EXIF else "auto"
            turn = imagefile.turned(found, size, exif)
            pixels = image.convert("RGB")
            return imagefile.upright(pixels, found.orientation if turn else 1), ""
    except FileNotFoundError:
        return None, "the image file is not there"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return None, f"the image cannot be read ({clean(error, 120)})"


def _dataset(runs: Sequence[Run], notes: list[str]) -> dict[str, Any]:
    for run in runs:
        if run.external:
            continue
        value, problem = run.dataset()
        if isinstance(value, dict) and isinstance(value.get("images"), list):
            return value
    notes.append(problem or "no run of this table has a dataset.json with images")
    return {}


def _truth(dataset: Mapping[str, Any], record: Mapping[str, Any]) -> list[Found]:
    return [
        Found(box, annotation.get("category_id"), None, bool(annotation.get("iscrowd")))
        for annotation in _list(dataset, "annotations")
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
        key, png = _key(row, "image_id"), dig(row, "png")
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
    """category id -> name. The page's reader has fonts of its own."""
    return {
        category["id"]: shorten(clean(category.get("name"), 200), 40)
        for category in _list(dataset, "categories")
        if isinstance(category, dict) and isinstance(category.get("id"), int | str)
    }


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _key(record: Any, field: str) -> tuple[str, Any] | None:
    """An id that can be compared with every other one, or None for what is no id."""
    value = dig(record, field)
    return (type(value).__name__, value) if isinstance(value, int | str) else None


def _xyxy(record: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """COCO's [x, y, width, height] as xyxy; None unless it is four numbers with an area."""
    x, y, w, h = (number(record, "bbox", i) for i in range(4))
    return (x, y, x + w, y + h) if w > 0 and h > 0 and x == x and y == y else None
