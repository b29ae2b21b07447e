"""Assigns the results of another program to the images of the ground truth.

By file name where every result has one, else by what image_id can be: an id of the ground truth, or
the stem of a file's name. Where both can be and differ, the one that puts the boxes on objects.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from detzoo.metrics import conventions
from detzoo.report.load.values import clean

FILE_KEYS = (
    *("file_name", "filename", "image_name", "image_path", "file_path", "image", "path", "file"),
    *("img_path", "img_name", "img", "image_file"),
)
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "train2017", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "val2017"), "val"),
    **dict.fromkeys(("test", "test2017", "testing"), "test"),
}


Result = Mapping[str, Any]


def join_images(rows: Sequence[Result], truth: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """The image id of every row, and how it was found."""
    names = [text_of(row, FILE_KEYS) for row in rows]
    if all(names):
        return _by_name(rows, names, truth)
    ids = [row.get("image_id", row.get("image")) for row in rows]
    for index, id in enumerate(ids):
        if not isinstance(id, int | str) or isinstance(id, bool):
            raise ValueError(f"result {index}: image_id is {show(id)}; it names no image")
    known = {image["id"] for image in truth["images"]}
    as_ids = [to_whole_number(id) for id in ids]
    by_id = as_ids if all(id in known for id in as_ids) else None
    by_stem = _by_stem(ids, truth)
    if by_id is None and by_stem is None:
        index = next(i for i, id in enumerate(as_ids) if id not in known)
        raise ValueError(
            f"result {index}: image_id {show(ids[index])} is not among the images, nor the stem "
            f"of a file's name ({list_some(image['file_name'] for image in truth['images'])})"
            f"{positions_hint(as_ids, known)}"
        )
    if by_stem is None or by_id == by_stem:
        return by_id, ["joined by image_id"]
    if by_id is None:
        return by_stem, ["joined by image_id, which is the stem of the file's name"]
    check_numbers(rows)
    fits = [
        max(conventions.box_fits(truth, _placed(rows, images)), key=lambda fit: fit.hits)
        for images in (by_id, by_stem)
    ]
    counts = (
        f"as an id of the ground truth {fits[0].hits} of {fits[0].of} boxes lie on an object, as "
        f"the stem of the file's name {fits[1].hits}"
    )
    if fits[1].beats(fits[0]):
        return by_stem, [f"joined by image_id as the stem of the file's name ({counts})"]
    if fits[0].beats(fits[1]):
        return by_id, [f"joined by image_id as an id of the ground truth ({counts})"]
    raise ValueError(
        f"image_id may be an id of the ground truth or the stem of a file's name, which are other "
        f"images here ({counts}); write a file_name into each result"
    )


def _by_name(
    rows: Sequence[Result], names: Sequence[str], truth: Mapping[str, Any]
) -> tuple[list[int], list[str]]:
    records = {image["id"]: str(image.get("file_name")) for image in truth["images"]}
    deepest = max(len(_parts(name)) for name in records.values())
    first = 0
    for depth in range(1, deepest + 1):
        for how, spelt in _spellings(depth):
            place = {spelt(name): id for id, name in records.items()}
            if len(place) < len(records):
                continue  # two images are called so
            image_of = {name: place.get(spelt(name)) for name in set(names)}
            found = [image_of[name] for name in names]
            if None not in found:
                _check_splits(names, [records[id] for id in found])
                return found, [f"joined by {how}{_other_numbers(rows, names, found, records)}"]
            first = max(first, found.index(None))
    name = show(names[first])
    unknown = f"file name {name} is not among the images that the runs were scored on"
    base = Counter(_parts(name)[0] for name in records.values())
    if base[_parts(names[first])[0]] > 1:
        unknown = f"file name {show(names[first])} could be several images: it needs its folder"
    raise ValueError(f"result {first}: {unknown} ({list_some(records.values())})")


def _other_numbers(
    rows: Sequence[Result], names: Sequence[str], found: Sequence[int], records: Mapping[int, str]
) -> str:
    """A note on image_ids that the ground truth does not have. ValueError if one image has two ids,
    or one id two images."""
    image_of: dict[Any, int] = {}
    first_of: dict[int, int] = {}
    for index, (row, image) in enumerate(zip(rows, found, strict=True)):
        id = row.get("image_id")
        if not isinstance(id, int | str):
            continue
        before = first_of.setdefault(image, index)
        if image_of.setdefault(id, image) != image or rows[before].get("image_id") != id:
            raise ValueError(
                f"result {index}: image_id {show(id)} and file name {show(names[index])} "
                "contradict one another: elsewhere in the file they stand for other images"
            )
    other = sum(id != image for id, image in image_of.items())
    if not other:
        return ""
    return f"; image_id is of another numbering (of {other} of {len(image_of)} images)"


def _check_splits(names: Sequence[str], records: Sequence[str]) -> None:
    """Pictures of train and test often have the same names: then the folders distinguish them."""

    def split(name: str) -> str | None:
        folders = (SPLIT_FOLDERS.get(part.casefold()) for part in _parts(name)[1:])
        return next(filter(None, folders), None)

    for name, record in set(zip(names, records, strict=True)):
        theirs, ours = split(name), split(record)
        if theirs and ours and theirs != ours:
            raise ValueError(
                f"its file names are of the {theirs} split ({show(name)}); the runs were "
                f"scored on {ours} ({show(record)})"
            )


def _by_stem(ids: Sequence[Any], truth: Mapping[str, Any]) -> list[int] | None:
    """image_id as many programs derive it: the stem of the file name, as a number where it is
    numeric."""
    stems: dict[Any, int] = {}
    for image in truth["images"]:
        stem = _stem(_parts(str(image.get("file_name")))[0])
        for key in {to_whole_number(stem), stem}:
            if key in stems:
                return None
            stems[key] = image["id"]
    keys = [_stem(_parts(id)[0]) if isinstance(id, str) and id else id for id in ids]
    found = [stems.get(key, stems.get(to_whole_number(key))) for key in keys]
    return None if None in found else found


def to_whole_number(value: Any) -> Any:
    """The whole number in a text, anything else unchanged."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _placed(rows: Sequence[Result], images: Sequence[int]) -> list[dict[str, Any]]:
    return [{**row, "image_id": image} for row, image in zip(rows, images, strict=True)]


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file of a path, from the last on, as every system spells it."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    return tuple(reversed(path.parts))


def _stem(part: str) -> str:
    return PurePosixPath(part).stem


def _spellings(depth: int) -> tuple[tuple[str, Callable[[str], Any]], ...]:
    """How strictly names are compared, over `depth` parts of the path."""
    return (
        ("file name", lambda name: _parts(name)[:depth]),
        ("file name without suffix", lambda name: (_stem(_parts(name)[0]), *_parts(name)[1:depth])),
        (
            "file name without suffix, case and %20",
            lambda name: tuple(
                p.casefold()
                for p in (_stem(_parts(unquote(name))[0]), *_parts(unquote(name))[1:depth])
            ),
        ),
    )


def check_numbers(rows: Sequence[Result]) -> None:
    """ValueError unless every bbox is four finite numbers with sides >= 0, and score is finite."""
    for index, row in enumerate(rows):
        box, score = row.get("bbox"), row.get("score")
        where = f"result {index}: bbox {show(box)}"
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f"{where}: it must be four finite numbers x, y, w, h")
        if any(isinstance(side, str) for side in box):
            raise ValueError(f"{where} holds text; it must be four finite numbers x, y, w, h")
        if not all(is_number(side) and math.isfinite(side) for side in box):
            raise ValueError(f"{where}: it must be four finite numbers x, y, w, h")
        if box[2] < 0 or box[3] < 0:
            raise ValueError(
                f"{where} has a negative width or height; COCO results hold {conventions.COCO}"
            )
        if isinstance(score, str):
            raise ValueError(f"result {index}: score {show(score)} is text, not a number")
        if not is_number(score) or not math.isfinite(score):
            raise ValueError(f"result {index}: score is {show(score)}; it must be a finite number")


def text_of(row: Result, keys: Sequence[str]) -> str | None:
    return next((row[key] for key in keys if isinstance(row.get(key), str) and row[key]), None)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def show(value: Any) -> str:
    return clean(repr(value), 100)


def list_some(items: Any, most: int = 5) -> str:
    items = [clean(item, 60) for item in items]
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def positions_hint(ids: Sequence[Any], known: Collection[int]) -> str:
    """A hint where the unknown ids look like indices into the list of known ones."""
    places, first = {id for id in ids if isinstance(id, int)}, min(known)
    for start in (0, 1):
        if start != first and places and places <= set(range(start, start + len(known))):
            return f"; the file seems to count from {start}, where the ids here begin with {first}"
    return ""
