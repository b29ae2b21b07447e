"""COCO results of another program, read as they are meant: each on its image, with its class.

Programs number images and classes in their own ways, and a file that is joined by the wrong numbers
scores near 0 without an error. So images are joined by file name where given, else by image_id (an
id of the ground truth, or the stem of a file); classes by name where given. A file that contradicts
itself, or whose boxes follow another convention, is refused with the reason.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detzoo.metrics import conventions
from detzoo.report.load.result_images import (
    FILE_KEYS,
    Result,
    check_numbers,
    is_number,
    join_images,
    list_some,
    positions_hint,
    show,
    text_of,
    to_whole_number,
)
from detzoo.report.load.values import clean

CLASS_KEYS = ("category_name", "class_name", "category", "class", "label", "label_name")
LISTS = ("annotations", "predictions", "results", "detections")


@dataclass(frozen=True)
class Results:
    """COCO results with the ids of the ground truth, in the order of the file. notes: how they were
    joined, and anything odd about them."""

    found: list[dict[str, Any]]
    notes: tuple[str, ...]


def read_results(value: Any, truth: Mapping[str, Any]) -> Results:
    """The results in `value`, read from JSON, on the images of `truth`, a COCO dict.

    It is a list of COCO results, a COCO dict that holds one under one of LISTS (with images and
    categories that name what its ids are), or what `detzoo predict` writes. ValueError names the
    first result that cannot be used, or what the file contradicts.
    """
    rows = _rows(value)
    if not rows:
        return Results([], ())
    images, by_image = join_images(rows, truth)
    labels, by_class = _join_classes(rows, truth)
    check_numbers(rows)
    found = [
        {"image_id": image, "category_id": label, "bbox": row["bbox"], "score": row["score"]}
        for row, image, label in zip(rows, images, labels, strict=True)
    ]
    notes = [*by_image, *by_class, *_check_boxes(found, truth)]
    if not by_class:  # no names gave the classes
        notes += _check_classes(found, truth)
    scores = [row["score"] for row in rows]
    if min(scores) < 0 or max(scores) > 1:
        notes.append(f"scores lie between {min(scores):g} and {max(scores):g}, not in 0..1")
    return Results(found, tuple(notes))


def _rows(value: Any) -> list[dict[str, Any]]:
    """The results, with the names that the rest of the file has for their ids."""
    files: Mapping[Any, Any] = {}
    classes: Mapping[Any, Any] = {}
    if isinstance(value, dict):
        lists = [key for key in LISTS if isinstance(value.get(key), list)]
        if not lists or not _has(value[lists[0]], "score"):
            hint = ": ground truth has no scores" if lists and value[lists[0]] else ""
            raise ValueError(f"it holds a mapping, not COCO results, which are a list{hint}")
        files = _table(value.get("images"), ("file_name", *FILE_KEYS))
        classes = _table(value.get("categories"), ("name",))
        value = value[lists[0]]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("it does not hold COCO results, a list of mappings")
    if value and all(isinstance(row.get("objects"), list) and "file" in row for row in value):
        value = [found for image in value for found in _predicted(image)]
    named = []
    for row in value:
        extra = {}
        if (name := _lookup(files, row.get("image_id"))) is not None:
            extra["file_name"] = name
        if (name := _lookup(classes, row.get("category_id"))) is not None:
            extra["category_name"] = name
        named.append({**row, **extra} if extra else row)
    return named


def _predicted(image: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects of one image in `detzoo predict`'s predictions.json, as COCO results."""
    rows = []
    for found in image["objects"]:
        box = found.get("box") if isinstance(found, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise ValueError(f"{clean(image['file'], 100)!r}: an object's box is {box!r}")
        x1, y1, x2, y2 = box
        row = {"file_name": image["file"], "category_name": found.get("class")}
        rows.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": found.get("score")})
    return rows


def _has(rows: Sequence[Any], key: str) -> bool:
    return any(isinstance(row, dict) and key in row for row in rows)


def _table(entries: Any, keys: Sequence[str]) -> dict[Any, str]:
    """id -> the first of `keys` that is text."""
    found = {}
    for entry in entries if isinstance(entries, list) else []:
        name = text_of(entry, keys) if isinstance(entry, dict) else None
        if name and isinstance(entry.get("id"), int | str):
            found[entry["id"]] = name
    return found


def _lookup(table: Mapping[Any, str], key: Any) -> str | None:
    return table.get(key) if isinstance(key, int | str) else None


# Classes


def _join_classes(rows: Sequence[Result], truth: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """The category id of every row, and how it was found: empty if it is the row's own."""
    ids = {str(category["name"]): category["id"] for category in truth["categories"]}
    names = [text_of(row, CLASS_KEYS) or _class_text(row) for row in rows]
    if not all(names):
        return _class_ids(rows, truth), []
    found = _by_spelling(names, ids)
    if None in found:
        index = found.index(None)
        raise ValueError(
            f"result {index}: class {show(names[index])} is not among the classes "
            f"({list_some(ids)})"
        )
    written = [row.get("category_id") for row in rows]
    pairs = {(id, label) for id, label in zip(written, found, strict=True) if isinstance(id, int)}
    if len(pairs) > min(len({id for id, _ in pairs}), len({label for _, label in pairs})):
        raise ValueError(
            "class names and category_id contradict one another: one stands for several "
            "of the other in the file; leave category_id out to go by the names"
        )
    other = any(id != label for id, label in pairs)
    note = "classes by name" + ("; category_id is of another numbering" if other else "")
    return found, [note]


def _class_text(row: Result) -> str | None:
    id = row.get("category_id")
    return id if isinstance(id, str) and not isinstance(to_whole_number(id), int) else None


def _by_spelling(names: Sequence[str], ids: Mapping[str, Any]) -> list[Any]:
    """By exact name; if one is missing, ignoring case and surrounding spaces."""
    found = [ids.get(name) for name in names]
    if None not in found:
        return found

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", name).strip().casefold()

    loose = {plain(name): id for name, id in ids.items()}
    return [loose.get(plain(name)) for name in names] if len(loose) == len(ids) else found


def _class_ids(rows: Sequence[Result], truth: Mapping[str, Any]) -> list[Any]:
    known = {category["id"]: str(category["name"]) for category in truth["categories"]}
    ids = [row.get("category_id") for row in rows]
    for index, id in enumerate(ids):
        if isinstance(id, str):
            raise ValueError(
                f"result {index}: category_id {show(id)} is text; it must be a number, or the "
                f"name of a class ({list_some(known.values())})"
            )
        if not isinstance(id, int) or isinstance(id, bool) or id not in known:
            pairs = list_some(f"{id} {name}" for id, name in sorted(known.items()))
            raise ValueError(
                f"result {index}: category_id {show(id)} is not among the categories "
                f"({pairs}){positions_hint(ids, known)}; "
                "a category_name in each result would do as well"
            )
    return ids


def _check_classes(found: Sequence[Result], truth: Mapping[str, Any]) -> list[str]:
    """What is odd about ids that are all known. ValueError where they clearly are indices into a
    list of classes: almost no box overlaps an object of its class as written (with a detector that
    gives everything one class, boxes of that class do)."""
    written, others = conventions.class_fits(truth, found)
    pairs = list_some(f"{category['id']} {category['name']}" for category in truth["categories"])
    for fit in (fit for fit in others if fit.beats(written)):
        problem = (
            f"category_id looks like {fit.name}: read so, {fit.hits} of {fit.of} boxes lie on an "
            f"object of their class, as ids of the categories ({pairs}) {written.hits}"
        )
        if fit.hits >= 10 * written.hits:
            raise ValueError(f"{problem}; write these ids, or a category_name into each result")
        return [problem]
    return []


# Boxes


def _check_boxes(found: Sequence[Result], truth: Mapping[str, Any]) -> list[str]:
    """What is odd about the boxes. ValueError if they clearly follow another convention."""
    counts = conventions.plausible(truth, found)
    fits = conventions.box_fits(truth, found)
    written, other = fits[0], max(fits[1:], key=lambda fit: fit.hits)
    odd = counts.suspicion
    if other.beats(written, suspicious=bool(odd)):
        raise ValueError(
            f"its boxes look like {other.name}: read so, {other.hits} of {other.of} lie on an "
            f"object, as COCO's {conventions.COCO} {written.hits}{f'; {odd}' if odd else ''}; "
            "convert them"
        )
    if counts.normalised > 0.95 * counts.of:
        raise ValueError(
            f"{counts.normalised:,} of {counts.of:,} boxes lie in 0..1, {odd or 'in an image'}: "
            f"they look normalised; COCO results hold {conventions.COCO}"
        )
    if not odd:
        return []
    return [f"{odd}: are they {conventions.COCO}? corners (xyxy), 0..1 or centres would look so"]
