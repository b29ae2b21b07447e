"""COCO JSON: one annotation file per split, boxes as [x, y, width, height] in pixels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from detzoo.box_forms import XYWH
from detzoo.data import coco_file
from detzoo.data.coco_places import FILES, Images, Places, file_names, root_of
from detzoo.data.dataset import Dataset
from detzoo.data.source import DataError, Source


class Coco(Source):
    """A folder with COCO annotation files and images.

    root: the folder, or an annotation file, which is train's. splits: annotation file per split,
    relative to root; without it the usual places are searched (train.json,
    annotations/instances_train2017.json, train/_annotations.coco.json and so on), then every COCO
    JSON whose path names a split; a single one is train's. images: image folder, one for all or one
    per split; without it the folder that has most of the file's images. classes: names in the order
    of the labels; without it the training file's categories by ascending id. Boxes of categories
    that `classes` leaves out are dropped. options: see Source.
    """

    format = "coco"
    form = XYWH

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        images: str | Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        root, file = root_of(Path(root).expanduser())
        super().__init__(root, name, **options)
        self.images = images
        self.licences: dict[
            str, dict[str, int]
        ] = {}  # split -> coco_file.licences, once it is read
        self.layout = Places(self.root, self.tree, file)

    def search(self, split: str) -> Path | None:
        return self.layout.find(split)

    def fit(self, split: str, found: Path) -> tuple[int, int]:
        names = file_names(found)
        chosen = self.folder(self.images, split, "images")
        place = Images(chosen, False) if chosen else self.layout.images(split, found, names)
        return sum(self.layout.has(place, name) for name in names), len(names)

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
        found = coco_file.categories(coco_file.load(path), path.name, self.collector())
        names = tuple(dict.fromkeys(found.names.values()))
        if not names:
            raise DataError(f"{path}: no categories; name the classes with data.classes=[...]")
        return names

    def read_found(self, split: str, found: Path) -> Dataset:
        content = coco_file.load(found)
        self.licences[split] = coco_file.licences(content)
        collector = self.collector()
        file = self.place(found)
        categories = coco_file.categories(content, file, collector)
        images, ids = coco_file.images(content, file, collector)
        raw_boxes = coco_file.raw_boxes(
            content,
            file,
            categories.names,
            ids,
            self.classes,
            self._given_classes is not None,
            collector,
        )
        names_of = [image["file_name"] for image in images.values()]
        chosen = self.folder(self.images, split, "images")
        place = Images(chosen, False) if chosen else self.layout.images(split, found, names_of)
        if place.cut:
            folder = place.folder.relative_to(self.root).as_posix()
            collector.warning(
                "other folders",
                file,
                f"file names such as {names_of[0]!r} begin with folders that are not there",
                f"looked for by their last part in {folder}/",
            )
        for id, image in images.items():
            where = f"{file}: image {id}"
            path = collector.path(place.folder, place.name(image["file_name"]), where)
            if path is None:
                continue
            size = collector.stated_size(image.get("height"), image.get("width"), path, where)
            if size is not None:
                group = self.groups and self.groups.field(image)
                collector.add(id, path, size, raw_boxes.get(id, ()), group)
        return collector.dataset(self.name, split, self.classes, self._category_ids(categories))

    def _category_ids(self, categories: coco_file.Categories) -> tuple[int, ...]:
        """The file's own ids in the order of the labels; a class that it lacks gets a new one."""
        ids = categories.ids
        new = itertools.count(max(categories.names, default=0) + 1)
        return tuple(ids[name] if name in ids else next(new) for name in self.classes)
