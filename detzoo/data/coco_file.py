"""What a COCO annotation file holds: its images, categories and annotations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detzoo.data.collect import Claim, Collector, number
from detzoo.data.source import DataError
from detzoo.files import read_json

Entry = dict[str, Any]


def load(path: Path) -> Entry:
    """The file's content with lists under images, annotations and categories, or a DataError."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
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
    return {part: content.get(part, []) for part in parts}


def categories(content: Entry, path: Path, collector: Collector) -> dict[int, str]:
    """Category id -> name, by ascending id."""
    names: dict[int, str] = {}
    for index, category in enumerate(content["categories"]):
        where = f"{path.name}: categories[{index}]"
        try:
            id, name = int(category["id"]), str(category["name"])
        except (KeyError, TypeError, ValueError, OverflowError):
            collector.error("malformed entry", where, f"{category!r:.80}", "category left out")
            continue
        if id in names or name in names.values():
            collector.error(
                "duplicate id", where, f"category {id} {name!r} came before", "left out"
            )
            continue
        names[id] = name
    return dict(sorted(names.items()))


def images(content: Entry, path: Path, collector: Collector) -> dict[int, Entry]:
    """Image id -> its entry, whose file_name is text."""
    found: dict[int, Entry] = {}
    for index, image in enumerate(content["images"]):
        where = f"{path.name}: images[{index}]"
        if (
            not isinstance(image, dict)
            or not isinstance(image.get("id"), int)
            or not isinstance(image.get("file_name"), str)
        ):
            what = f"needs a whole number as id and a file_name: {image!r:.80}"
            collector.error("malformed entry", where, what, "image and boxes left out")
        elif image["id"] in found:
            collector.error(
                "duplicate id", where, f"image id {image['id']} came before", "second one left out"
            )
        else:
            found[image["id"]] = image
    return found


def claims(
    content: Entry,
    path: Path,
    names: dict[int, str],
    images: set[int],
    classes: Sequence[str],
    chosen: bool,
    collector: Collector,
) -> dict[int, list[Claim]]:
    """Image id -> its claims.

    names: category id -> name. images: the ids that there are. classes: names in the order of the
    labels. chosen: whether a category outside them was left out on purpose.
    """
    labels = {name: label for label, name in enumerate(classes)}
    found: dict[int, list[Claim]] = defaultdict(list)
    seen: set[Any] = set()
    left_out: Counter[str] = Counter()
    for index, annotation in enumerate(content["annotations"]):
        where = f"{path.name}: annotations[{index}]"
        try:
            image, category = annotation["image_id"], annotation["category_id"]
            x, y, width, height = map(number, annotation["bbox"])
            id = annotation.get("id")
            where = f"{path.name}: annotation {id}, image {image}"
            repeated = id is not None and id in seen
            name = names.get(category)
            known = image in images
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"needs image_id, category_id and bbox [x, y, width, height] ({error!r})"
            collector.error("malformed entry", where, what, "dropped")
            continue
        seen.add(id)
        if repeated:
            collector.error("duplicate id", where, "annotation id came before", "dropped")
        elif not known:
            collector.error("unknown image", where, f"no image has id {image}", "dropped")
        elif name is not None and name not in labels and chosen:
            left_out[name] += 1
        else:
            found[image].append(
                Claim(
                    (x, y, x + width, y + height),
                    labels.get(name),
                    name if name is not None else f"category {category}",
                    where,
                    "crowd" if annotation.get("iscrowd") else None,
                    number(annotation.get("area")),
                )
            )
    for name, count in left_out.items():
        collector.warning(
            "class left out",
            path.name,
            f"{name} is not in data.classes",
            f"{count} boxes dropped",
        )
    return found
