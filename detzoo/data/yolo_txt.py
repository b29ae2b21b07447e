"""YOLO text: a .txt per image; a line per box: class, centre x, y, width, height, all in 0..1."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from detzoo.box_forms import YOLO
from detzoo.data.collect import Collector, RawBox
from detzoo.data.dataset import Dataset
from detzoo.data.folders import images_in, unique
from detzoo.data.source import Source
from detzoo.data.yolo_places import Places, label_file, listed, root_of, text_of
from detzoo.data.yolo_rows import Polygons, ask_about, raw_boxes


class YoloTxt(Source):
    """Images with a text file beside or parallel to each.

    root: the folder, or the data.yaml in it. splits: image folders, or text files with an image
    path per line, one or several per split, relative to root; without it as data.yaml or obj.data
    names them, else images/<split>, <split>/images, train.txt and the like, or folders whose path
    names a split; without any, all images are training images. annotations: the folder of the text
    files, one for all or one per split; without it .../labels/.../a.txt for .../images/.../a.jpg,
    beside the image, or another usual place that has most of them. classes: names in the order of
    the labels; without it from data.yaml, dataset.yaml, classes.txt, obj.names or notes.json. A
    line with more than five numbers is a polygon (class x1 y1 x2 y2 ...); its box is taken.
    """

    format = "yolo_txt"
    form = YOLO
    several = True

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        annotations: str | Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        root, file = root_of(Path(root).expanduser())
        super().__init__(root, name, **options)
        self.annotations = annotations
        self.layout = Places(self.root, self.tree, file)

    def search(self, split: str) -> list[Path] | None:
        return self.layout.find(split)

    def fit(self, split: str, found: list[Path]) -> tuple[int, int]:
        images = [path for path, _ in self._images(found, self.collector())]
        labels = self._labels(split, images)
        there = [label_file(labels[path.parent], path.stem).is_file() for path in images]
        return sum(there), len(images)

    def looked_for(self, split: str) -> str:
        named = self.layout.named(split)
        return (
            (f"{named[1]} names {', '.join(named[0])}, which is not there; " if named else "")
            + f"looked in {self.root} for images/{split}, {split}/images and {split}.txt; name the "
            + "image folder, or a text file with an image path per line, with "
            + f"data.splits.{split}=PLACE"
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self._given_classes or self.layout.class_names()

    def read_found(self, split: str, found: list[Path]) -> Dataset:
        collector = self.collector()
        images = self._images(found, collector)
        labels = self._labels(split, [path for path, _ in images])
        polygons: Polygons = []
        for id, (path, where) in enumerate(images, 1):
            size = None if collector.skips(path) else collector.size(path, where)
            if size is not None:
                file = label_file(labels[path.parent], path.stem)
                collector.add(id, path, size, self._claims(path, file, size, collector, polygons))
        ask_about(polygons, collector)
        if all(place.is_dir() for place in found):  # a list leaves out on purpose
            for place in unique(labels.values()):
                self._tell_unread([f for f, p in labels.items() if p == place], place, collector)
        category_ids = tuple(range(1, len(self.classes) + 1))
        return collector.dataset(self.name, split, self.classes, category_ids)

    def _images(self, found: list[Path], collector: Collector) -> list[tuple[Path, str]]:
        """Image paths, and where they are listed; none comes twice."""
        images: dict[Path, str] = {}
        for place in found:
            if place.is_dir():
                for path in images_in(place, below=True):
                    images.setdefault(path, path.relative_to(self.root).as_posix())
                continue
            for text, line, image in listed(self.root, place):
                where = f"{place.name}:{line}"
                if image is None:
                    image = collector.path(self.root, text, where)
                if image is not None:
                    images.setdefault(image, where)
        return list(images.items())

    def _labels(self, split: str, images: list[Path]) -> dict[Path, Path]:
        """Folder of images -> folder of their text files."""
        chosen = self.folder(self.annotations, split, "annotations")
        stems: dict[Path, list[str]] = defaultdict(list)
        for path in images:
            stems[path.parent].append(path.stem)
        return {
            folder: chosen or self.layout.labels(folder, names) for folder, names in stems.items()
        }

    def _claims(
        self,
        path: Path,
        labels: Path,
        size: tuple[int, int],
        collector: Collector,
        polygons: Polygons,
    ) -> list[RawBox]:
        where = labels.relative_to(self.root).as_posix()
        if not labels.is_file():
            collector.warning(
                "no label file",
                path.relative_to(self.root).as_posix(),
                f"{where} is not there",
                "an image without boxes",
            )
            return []
        keypoints = self.layout.keypoints
        return raw_boxes(text_of(labels), where, size, self.classes, collector, keypoints, polygons)

    def _tell_unread(self, folders: list[Path], labels: Path, collector: Collector) -> None:
        """Warn of label files that belong to no image that can be read."""
        lost = self.layout.unread(folders, labels)
        if not lost:
            return
        stems = {os.path.splitext(name)[0] for name in lost}
        names = (name for folder in folders for name in self.tree.files.get(folder, ()))
        beside = map(os.path.splitext, names)
        ends = unique(end for stem, end in beside if stem in stems and end.lower() != ".txt")
        why = f"their images end in {', '.join(ends)}" if ends else "no image has their name"
        collector.warning(
            "labels without images",
            labels.relative_to(self.root).as_posix(),
            f"{len(lost)} files with labels are not read, {lost[0]} first: {why}",
            "left out",
        )
