"""The same test images side by side: ground truth first, then every detector."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detzoo import imagefile
from detzoo.report.drawing import Box, as_uri, draw, heated
from detzoo.report.fonts import drawable, legend
from detzoo.report.palette import Style
from detzoo.report.runs import Run, clean, dig, number, read, shorten

COUNT, THRESHOLD = 4, 0.3


@dataclass(frozen=True)
class Tile:
    """One picture. uri: a JPEG as data URI, empty where note says why."""

    caption: str
    colour: str
    uri: str = ""
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """One test image as everybody sees it."""

    name: str
    tiles: tuple[Tile, ...]


@dataclass
class Gallery:
    strips: list[Strip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gallery(
    runs: Sequence[Run],
    called: Mapping[Run, str],
    styles: Mapping[str, Style],
    *,
    side: int = 480,
    quality: int = 80,
    ids: Sequence[int] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Gallery:
    """Images of the runs' common test split: `ids` in their order, or four that are evenly spaced
    through it and not chosen by result.

    A detector with several seeds shows its first one, and one that looks for points its heatmaps
    too. side: the longer side in pixels of a tile. thresholds: detector -> the score from which it
    is drawn, THRESHOLD for others.
    """
    found = Gallery()
    dataset = _dataset(runs, found.notes)
    found.notes += filter(None, [legend(list(_names(dataset).values()))])
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
        name: _predictions(run, dataset, wanted, scores[name], styles[name].colour, found.notes)
        for name, run in shown.items()
    }
    heat_of = {name: _heatmaps(run) for name, run in shown.items()}
    for record in records:
        image, problem = open_image(dataset, record)
        name = clean(record.get("file_name", record.get("id")), 200)
        if image is None:
            found.strips.append(Strip(name, (Tile(name, "", note=problem),)))
            continue
        size = image.size
        scale = side / max(size)  # small images grow, or the names would hide them
        grown = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        image = image.resize(grown, Image.Resampling.LANCZOS)
        factor = image.size[0] / size[0], image.size[1] / size[1]
        truth = draw(image, _truth(dataset, record), factor=factor)
        tiles = [Tile("ground truth", "", as_uri(truth, quality))]
        for detector, by_image in boxes_of.items():
            colour = styles[detector].colour
            if by_image is None:
                tiles.append(Tile(detector, colour, note="its predictions cannot be read"))
            else:
                boxes = by_image.get(record.get("id"), [])
                note = "" if boxes else f"nothing of score {scores[detector]:.3g} or more"
                drawn = draw(image, boxes, factor=factor)
                tiles.append(Tile(detector, colour, as_uri(drawn, quality), note))
        for detector, of_image in heat_of.items():  # last: nothing stands between the detectors
            for what, heat in of_image.get(record.get("id"), []):
                uri = as_uri(heated(image, heat), quality)
                tiles.append(Tile(f"{detector}: {what}", styles[detector].colour, uri))
        found.strips.append(Strip(name, tuple(tiles)))
    return found


def choose(dataset: Mapping[str, Any], count: int = COUNT) -> list[dict[str, Any]]:
    """`count` image records, evenly spaced by id among those with boxes (among all if none has)."""
    records = [r for r in _list(dataset, "images") if isinstance(r, dict) and _key(r, "id")]
    with_boxes = {_key(annotation, "image_id") for annotation in _list(dataset, "annotations")}
    records = [r for r in records if _key(r, "id") in with_boxes] or records
    records.sort(key=lambda r: _key(r, "id"))
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
        value, problem = read(run.path, "dataset.json")
        if isinstance(value, dict) and isinstance(value.get("images"), list):
            return value
    notes.append(problem or "no run of this table has a dataset.json with images")
    return {}


def _truth(dataset: Mapping[str, Any], record: Mapping[str, Any]) -> list[Box]:
    names = class_names(dataset)
    found = []
    for annotation in _list(dataset, "annotations"):
        if isinstance(annotation, dict) and annotation.get("image_id") == record.get("id"):
            crowd = bool(annotation.get("iscrowd"))
            name = _name(names, annotation.get("category_id"))
            if box := _xyxy(annotation):
                found.append(Box(box, f"{name} (crowd)" if crowd else name, crowd))
    return found


def _predictions(
    run: Run,
    dataset: Mapping[str, Any],
    wanted: Collection[Any],
    threshold: float,
    colour: str,
    notes: list[str],
) -> dict[Any, list[Box]] | None:
    """image id -> boxes of at least `threshold` in `wanted`, best first; None if damaged."""
    value, problem = run.results()
    if not isinstance(value, list):
        notes.append(f"{run.path.name}: {problem or 'there is no list in predictions.json'}")
        return None
    names = class_names(dataset)
    found: dict[Any, list[tuple[float, Box]]] = {}
    for result in value:
        if not isinstance(result, dict) or number(result, "score") < threshold:
            continue
        image, box = result.get("image_id"), _xyxy(result)
        if isinstance(image, int | str) and image in wanted and box:
            score = number(result, "score")
            text = f"{_name(names, result.get('category_id'))} {score:.2f}"
            found.setdefault(image, []).append((score, Box(box, text, colour=colour)))
    return {i: [b for _, b in sorted(v, key=lambda p: -p[0])] for i, v in found.items()}


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
    """category id -> name, or the number that is drawn where no font has it."""
    names = _names(dataset)
    drawn = drawable(list(names.values()))
    return {id: shorten(drawn[name], 22) for id, name in names.items()}


def _names(dataset: Mapping[str, Any]) -> dict[Any, str]:
    return {
        category["id"]: clean(category.get("name"), 200)
        for category in _list(dataset, "categories")
        if isinstance(category, dict) and isinstance(category.get("id"), int | str)
    }


def _name(names: Mapping[Any, str], key: Any) -> str:
    return names.get(key, "?") if isinstance(key, int | str) else "?"


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
