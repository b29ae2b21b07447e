"""The content of a COCO annotation file: images, categories and annotations."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detzoo.data import bounds
from detzoo.data.collect import Collector, RawBox
from detzoo.data.parsing import parse_id, parse_number
from detzoo.data.source import DataError
from detzoo.files import read_json

Entry = dict[str, Any]


def load(path: Path) -> Entry:
    """The file's content with lists under images, annotations and categories, or a DataError."""
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{error}; restore the annotation file") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(
        not isinstance(content.get(part, []), list) for part in parts
    ):
        raise DataError(
            f"{path}: not COCO's form, which is an object with lists {', '.join(parts)}"
        )
    if "images" not in content:
        raise DataError(f"{path}: it has no list of images; is it a file of results?")
    listed = content.get("licenses")
    licences = listed if isinstance(listed, list) else []
    return {**{part: content.get(part, []) for part in parts}, "licenses": licences}


def licences(content: Entry) -> dict[str, int]:
    """COCO's own `licenses`, as `name (url)`, with the number of images that refer to each."""
    entries = [of for of in content["licenses"] if isinstance(of, dict)]
    refer = Counter(str(i.get("license")) for i in content["images"] if isinstance(i, dict))
    found: dict[str, int] = {}
    for of in entries:
        name, url = (str(of.get(key) or "").strip() for key in ("name", "url"))
        text = f"{name} ({url})" if name and url else name or url
        if text:
            found[text] = found.get(text, 0) + refer[str(of.get("id"))]
    return found


class Categories(NamedTuple):
    """names: category id -> class name, by ascending id; two ids may share a name.

    ids: class name -> the id that represents it elsewhere, the first that has boxes.
    """

    names: dict[int, str]
    ids: dict[str, int]


def categories(content: Entry, where: str, collector: Collector) -> Categories:
    """The categories of a file, without a root category that has no boxes.

    where: the file, as problems name it.
    """
    names: dict[int, str] = {}
    above: dict[int, str] = {}  # category id -> its supercategory
    for index, category in enumerate(content["categories"]):
        try:
            id, name = parse_id(category["id"]), category["name"]
            if id is None or name is None:
                raise ValueError("no id or name")
            name = str(name)
        except (KeyError, TypeError, ValueError):
            place = f"{where}: categories[{index}]"
            collector.error("malformed entry", place, f"{category!r:.80}", "category left out")
            continue
        if id in names:
            place = f"{where}: categories[{index}]"
            collector.error(
                "duplicate id", place, f"category {id} {name!r} came before", "left out"
            )
            continue
        names[id], above[id] = name, str(category.get("supercategory"))
    names = dict(sorted(names.items()))
    used = {parse_id(a.get("category_id")) for a in content["annotations"] if isinstance(a, dict)}
    for id in [id for id in names if id not in used and _is_root(id, names, above)]:
        what = f"category {id} {names[id]!r} is above the others and has no boxes"
        collector.warning("root category", where, what, "left out")
        del names[id]
    ids: dict[str, int] = {}
    for id, name in sorted(names.items(), key=lambda item: (item[0] not in used, item[0])):
        if name in ids:
            what = f"categories {ids[name]} and {id} are both called {name!r}"
            collector.warning("duplicate class", where, what, "taken as one class")
        ids.setdefault(name, id)
    return Categories(names, ids)


def _is_root(id: int, names: dict[int, str], above: dict[int, str]) -> bool:
    """Whether a category is the group that all others are in, as Roboflow writes one."""
    others = [other for other in names if other != id]
    return (
        bool(others)
        and above[id] in ("none", "None", "")
        and all(above[other] == names[id] for other in others)
    )


class Images(NamedTuple):
    """entries: image id -> its entry, whose file_name is text. ids: id as written -> image id."""

    entries: dict[int, Entry]
    ids: dict[Any, int]


def images(content: Entry, where: str, collector: Collector) -> Images:
    """The images of a file. Where ids are no numbers, all images are numbered in their order."""
    entries: dict[Any, Entry] = {}
    for index, image in enumerate(content["images"]):
        id = key(image.get("id")) if isinstance(image, dict) else None
        if id is None or not isinstance(image.get("file_name"), str):
            what = f"needs an id and a file_name: {image!r:.80}"
            place = f"{where}: images[{index}]"
            collector.error("malformed entry", place, what, "image and boxes left out")
        elif id in entries:
            what = f"image id {id} came before"
            collector.error(
                "duplicate id", f"{where}: images[{index}]", what, "second one left out"
            )
        else:
            entries[id] = image
    words = [id for id in entries if not isinstance(id, int)]
    if not words:
        return Images(entries, {id: id for id in entries})
    what = f"{len(words)} ids are no whole numbers, such as {words[0]!r:.40}"
    collector.warning("image ids", where, what, "images are numbered in the order of the file")
    ids = {written: id for id, written in enumerate(entries, 1)}
    return Images({ids[written]: image for written, image in entries.items()}, ids)


def key(id: Any) -> int | str | None:
    """An id in comparable form: a whole number however it is written, other text unchanged."""
    number = parse_id(id)
    return number if number is not None else id if isinstance(id, str) and id else None


def raw_boxes(
    content: Entry,
    where: str,
    names: dict[int, str],
    images: dict[Any, int],
    classes: Sequence[str],
    chosen: bool,
    collector: Collector,
) -> dict[int, list[RawBox]]:
    """Image id -> its raw boxes.

    where: the file, as problems name it. names: category id -> name. images: id as written -> image
    id. classes: names in the order of the labels. chosen: whether a category outside them was left
    out on purpose.
    """
    labels = {name: label for label, name in enumerate(classes)}
    found: dict[int, list[RawBox]] = defaultdict(list)
    seen: set[Any] = set()
    left_out: Counter[str] = Counter()
    for index, annotation in enumerate(content["annotations"]):
        place = f"{where}: annotations[{index}]"
        try:
            image, category = annotation["image_id"], annotation["category_id"]
            id = annotation.get("id")
            place = f"{where}: annotation {id}, image {image}"
            repeated = id is not None and id in seen
            if key(image) is None:
                raise ValueError(f"image_id is {image!r:.40}")
            box, written = _box(annotation, place, collector)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"needs image_id, category_id and bbox [x, y, width, height] ({error!r:.200})"
            collector.error("malformed entry", place, what, "dropped")
            continue
        seen.add(id)
        name = names.get(parse_id(category))
        known = images.get(key(image))
        if repeated:
            collector.error("duplicate id", place, "annotation id came before", "dropped")
        elif known is None:
            collector.error("unknown image", place, f"no image has id {image!r:.40}", "dropped")
        elif name is not None and name not in labels and chosen:
            left_out[name] += 1
        else:
            crowd = collector.flag(annotation.get("iscrowd"), "iscrowd", place)
            found[known].append(
                RawBox(
                    box,
                    labels.get(name),
                    name if name is not None else f"category {category!r:.40}",
                    place,
                    crowd and "crowd",
                    parse_number(annotation.get("area")),
                    written,
                )
            )
    for name, count in left_out.items():
        what = f"{name} is not in data.classes"
        collector.warning("class left out", where, what, f"{count} boxes dropped")
    return found


def _numbers(bbox: Any) -> list[float]:
    """The numbers of a bbox, which tables write as text, and some tools inside another list."""
    if isinstance(bbox, str) and bbox.strip():
        values = [parse_number(value) for value in bbox.strip(" []()").replace(",", " ").split()]
        if any(map(math.isnan, values)):
            raise ValueError(f"its bbox is {bbox!r:.60}")
        return values
    if isinstance(bbox, list) and len(bbox) == 1 and isinstance(bbox[0], list):
        bbox = bbox[0]
    if bbox and not isinstance(bbox, list):
        raise ValueError(f"its bbox is {bbox!r:.60}")
    return [parse_number(value) for value in bbox or []]


def _box(
    annotation: Entry, where: str, collector: Collector
) -> tuple[bounds.Box, tuple[float, ...] | None]:
    """An annotation's box, and the four numbers that it comes from. ValueError if it has none.

    Without a bbox, or with one of zeros, it is the box of the mask; for a rotated box, the upright
    one around it: five numbers are the centre, the sides and an angle in degrees, eight are the
    corners; CVAT writes the unrotated box, and the angle separately.
    """
    bbox, drawing = annotation.get("bbox"), annotation.get("segmentation")
    values = _numbers(bbox)
    if not any(values) and drawing:
        try:
            box = bounds.segmentation(drawing)
        except ValueError as error:
            raise ValueError(f"no bbox, and a segmentation that gives none: {error}") from None
        what = "an annotation has a segmentation and no bbox"
        collector.note("mask without box", where, what, "the box of its mask")
        return box, None
    if len(values) in (5, 8):
        collector.note("rotated box", where, "a box is turned", "the upright box around it")
        if len(values) == 8:
            return bounds.around(zip(values[::2], values[1::2], strict=True)), None
        if not all(map(math.isfinite, values)):
            return (math.nan,) * 4, None
        return bounds.rotated(*values[:4], math.radians(values[4])), None
    if len(values) != 4:
        raise ValueError(f"its bbox is {bbox!r:.60}, and it has no segmentation")
    x, y, width, height = values
    attributes = annotation.get("attributes")
    degrees = parse_number(attributes.get("rotation")) if isinstance(attributes, dict) else 0.0
    if math.isfinite(degrees) and degrees % 180 and min(width, height) > 0:
        collector.note("rotated box", where, "a box is turned", "the upright box around it")
        centre = x + width / 2, y + height / 2
        return bounds.rotated(*centre, width, height, math.radians(degrees)), tuple(values)
    return (x, y, x + width, y + height), tuple(values)
