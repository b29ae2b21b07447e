"""COCO JSON: one annotation file per split, boxes as [x, y, width, height] in pixels."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from detzoo.data.dataset import Dataset
from detzoo.data.source import FOLDERS, Claim, Collector, DataError, Source, inside, number
from detzoo.files import read_json

Entry = dict[str, Any]

FILES = (
    "{}.json",
    "annotations/{}.json",
    "annotations/instances_{}.json",
    "{}/_annotations.coco.json",
    "{}/annotations.json",
)


class Coco(Source):
    """A folder with COCO annotation files and images.

    splits: annotation file per split, relative to root; without it the usual places are searched
    (train.json, annotations/instances_train2017.json, train/_annotations.coco.json and so on).
    images: image folder, one for all or one per split; without it the first of images/<split>,
    <split>, images, the annotation file's own folder that has the first image. classes: names in
    the order of the labels; without it the training file's categories by ascending id. Boxes of
    categories that `classes` leaves out are dropped. options: see Source.
    """

    format = "coco"

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        images: str | Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, name, **options)
        self.images = images

    def find(self, split: str) -> Path | None:
        if named := self.named(split):
            return named
        paths = [self.root / form.format(f) for f in FOLDERS[split] for form in FILES]
        if split == "train":
            paths += [self.root / "_annotations.coco.json", self.root / "annotations.json"]
        return next((path for path in paths if path.is_file()), None)

    def looked_for(self, split: str) -> str:
        forms = ", ".join(form.format(split) for form in FILES)
        return f"looked in {self.root} for {forms}; name the file with data.splits.{split}=FILE"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        if self._given_classes:
            return self._given_classes
        path = self.find("train")
        for split in ("val", "test"):
            path = path or self.find(split)
        if path is None:
            raise DataError(f"{self.name} has no annotation file: {self.looked_for('train')}")
        names = tuple(_categories(_load(path), path, Collector(self.root)).values())
        if not names:
            raise DataError(f"{path}: no categories; name the classes with data.classes=[...]")
        return names

    def read_found(self, split: str, found: Path) -> Dataset:
        content = _load(found)
        collector = Collector(self.root)
        names = _categories(content, found, collector)
        images = _images(content, found, collector)
        claims = self._claims(content, found, names, set(images), collector)
        folder = self._folder(split, found, images)
        for id, image in images.items():
            where = f"{found.name}: image {id}"
            path = collector.path(folder, image["file_name"], where)
            if path is None:
                continue
            size = collector.told_size(image.get("height"), image.get("width"), path, where)
            if size is not None:
                collector.add(id, path, size, claims.get(id, ()))
        return collector.dataset(self.name, split, self.classes, self._category_ids(names))

    def _claims(
        self,
        content: Entry,
        found: Path,
        names: dict[int, str],
        images: set[int],
        collector: Collector,
    ) -> dict[int, list[Claim]]:
        """Image id -> its claims."""
        labels = {name: label for label, name in enumerate(self.classes)}
        claims: dict[int, list[Claim]] = defaultdict(list)
        seen: set[Any] = set()
        left_out: Counter[str] = Counter()
        for index, annotation in enumerate(content["annotations"]):
            where = f"{found.name}: annotations[{index}]"
            try:
                image, category = annotation["image_id"], annotation["category_id"]
                x, y, width, height = map(number, annotation["bbox"])
                id = annotation.get("id")
                where = f"{found.name}: annotation {id}, image {image}"
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
            elif name is not None and name not in labels and self._given_classes:
                left_out[name] += 1
            else:
                claims[image].append(
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
                found.name,
                f"{name} is not in data.classes",
                f"{count} boxes dropped",
            )
        return claims

    def _folder(self, split: str, found: Path, images: dict[int, Entry]) -> Path:
        chosen = self.images if isinstance(self.images, str) else (self.images or {}).get(split)
        if chosen:
            folder = self.root / chosen
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder (data.images)")
            return folder
        first = next((image["file_name"] for image in images.values()), "")
        candidates = [self.root / "images" / name for name in FOLDERS[split]]
        candidates += [self.root / name for name in FOLDERS[split]]
        candidates += [self.root / "images", found.parent, self.root]
        for folder in candidates:
            if (path := inside(self.root, folder, first)) and path.is_file():
                return folder
        return next(folder for folder in candidates[-3:] if folder.is_dir())

    def _category_ids(self, names: dict[int, str]) -> tuple[int, ...]:
        """The file's own ids in the order of the labels; a class that it lacks gets a new one."""
        ids = {name: id for id, name in names.items()}
        new = itertools.count(max(names, default=0) + 1)
        return tuple(ids[name] if name in ids else next(new) for name in self.classes)


def _load(path: Path) -> Entry:
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


def _categories(content: Entry, path: Path, collector: Collector) -> dict[int, str]:
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


def _images(content: Entry, path: Path, collector: Collector) -> dict[int, Entry]:
    """Image id -> its entry, whose file_name is text."""
    images: dict[int, Entry] = {}
    for index, image in enumerate(content["images"]):
        where = f"{path.name}: images[{index}]"
        if (
            not isinstance(image, dict)
            or not isinstance(image.get("id"), int)
            or not isinstance(image.get("file_name"), str)
        ):
            what = f"needs a whole number as id and a file_name: {image!r:.80}"
            collector.error("malformed entry", where, what, "image and boxes left out")
        elif image["id"] in images:
            collector.error(
                "duplicate id", where, f"image id {image['id']} came before", "second one left out"
            )
        else:
            images[image["id"]] = image
    return images
