"""Pascal VOC: an XML per image in Annotations/, images in JPEGImages/, lists in ImageSets/Main."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from detzoo.box_forms import XYXY
from detzoo.data import voc_file
from detzoo.data.collect import Collector, RawBox
from detzoo.data.dataset import Dataset
from detzoo.data.folders import below, spelling, unique
from detzoo.data.parsing import parse_number
from detzoo.data.source import DataError, Source
from detzoo.data.voc_places import LISTS, Entry, Places

LOOKED_AT = 500  # annotations that are examined for pixel coordinates
Parsed = tuple[ElementTree.Element | None, voc_file.Objects, str]  # as voc_file.parse gives it


class Voc(Source):
    """A folder in the layout of the Pascal VOC challenges.

    splits: list of image names per split, relative to root; without it ImageSets/Main/<split>.txt;
    without lists, the folders of annotations whose path names a split, and without those every
    annotation is a training image. annotations, images: their folders, one for all or one per
    split; without it Annotations/ and JPEGImages/, other usual names, or one folder for both,
    whichever has most of them. classes: names in the order of the labels; without it the names in
    the training annotations, sorted. first_pixel: 1 for files like the challenges' own, which count
    pixels from 1 and mean xmax inclusively; 0 for tools that write a box's edges (labelImg and most
    others). options: see Source.
    """

    format = "voc"
    form = XYXY

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        first_pixel: int = 1,
        annotations: str | Mapping[str, str] | None = None,
        images: str | Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, name, **options)
        if first_pixel not in (0, 1):
            raise ValueError(f"first_pixel is {first_pixel!r}; it is 1 or 0")
        self.first_pixel = first_pixel
        self.annotations, self.images = annotations, images
        self.layout = Places(self.root, self.tree)

    def search(self, split: str) -> Path | list[Path] | None:
        return self.layout.find(split, self.folder(self.annotations, split, "annotations"))

    def entries(self, split: str, found: Path | list[Path]) -> list[Entry]:
        """The images of a split and where their annotations should be."""
        if isinstance(found, Path) and found.is_dir():
            found = [found]
        return self.layout.entries(found, self.folder(self.annotations, split, "annotations"))

    def fit(self, split: str, found: Path | list[Path]) -> tuple[int, int]:
        entries = self.entries(split, found)
        there = [below(self.root, entry.folder, entry.name) is not None for entry in entries]
        return sum(there), len(entries)

    def measured_first_pixel(self) -> int:
        """The first pixel's number in VOC files: 1 in the challenges' own, else 0, for edges.

        A box that begins at 0 cannot count from 1. One that begins at 1 shows nothing: labelImg
        writes edges, and never below 1.
        """
        found = self.find("train")
        entries = self.entries("train", found) if found is not None else []
        own = False
        for entry in entries[:: max(1, len(entries) // LOOKED_AT)]:
            path = entry.folder / entry.name
            tree, objects, _ = voc_file.parse(path) if path.is_file() else (None, [], "")
            if tree is None:
                continue
            own = own or bool(re.search(r"VOC ?20\d\d", voc_file.text(tree, "source/database")))
            for item, _ in objects:
                sides = (
                    parse_number(voc_file.text(item, f"bndbox/{side}")) for side in ("xmin", "ymin")
                )
                if any(side < 1 for side in sides):
                    return 0
        return int(own)

    def looked_for(self, split: str) -> str:
        return (
            f"looked for {self.root / LISTS / split}.txt and for folders of annotations (.xml) "
            f"with {split} in their path; name a list of image names, or such a folder, with "
            f"data.splits.{split}=PLACE"
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        if self._given_classes:
            return self._given_classes
        split = next((s for s in ("train", "val", "test") if self.find(s) is not None), None)
        if split is None:
            raise DataError(f"{self.name} has no annotations: {self.looked_for('train')}")
        entries = self.entries(split, self.find(split))
        names: set[str] = set()
        there = 0
        for entry in entries:
            path = below(self.root, entry.folder, entry.name)
            if path is not None and path.is_file():
                there += 1
                objects = voc_file.parse(path)[1]
                names.update(voc_file.text(item, "name") for item, _ in objects)
        names.discard("")
        if not there and entries:
            looked = (entries[0].folder / entries[0].name).relative_to(self.root).as_posix()
            raise DataError(
                f"{self.root}: looked for {looked}: none of {len(entries)} is there; "
                "data.annotations=DIR names their folder"
            )
        if not names:
            raise DataError(
                f"{self.root}: none of the {there} annotations of {split} has an object"
            )
        return tuple(sorted(names))

    def read_found(self, split: str, found: Path | list[Path]) -> Dataset:
        collector = self.collector()
        labels = {name: label for label, name in enumerate(self.classes)}
        entries = self.entries(split, found)
        parsed = [self._parsed(entry) for entry in entries]
        file_names = [
            voc_file.text(tree, "filename") if tree is not None else "" for tree, _, _ in parsed
        ]
        folders = self._image_folders(split, entries, file_names)
        all_raw_boxes: list[RawBox] = []
        for id, (entry, (tree, objects, wrong)) in enumerate(zip(entries, parsed, strict=True), 1):
            if collector.skips(self.root / entry.stem):
                continue
            xml = collector.path(entry.folder, entry.name, entry.where, "annotation")
            if xml is None:
                continue
            where = xml.relative_to(self.root).as_posix()
            if tree is None:
                collector.error("malformed entry", where, wrong, "image and boxes left out")
                continue
            folder = folders[entry.folder]
            path = self._image(folder, entry.stem, file_names[id - 1], where, collector)
            if path is None:
                continue
            size = collector.stated_size(
                voc_file.text(tree, "size/height"), voc_file.text(tree, "size/width"), path, where
            )
            if size is not None:
                read = (
                    voc_file.raw_box(item, labels, self.first_pixel, f"{where}:{line}", collector)
                    for item, line in objects
                )
                raw_boxes = [raw_box for raw_box in read if raw_box is not None]
                collector.add(id, path, size, raw_boxes)
                all_raw_boxes += raw_boxes
        self._tell_first_pixel(all_raw_boxes, collector)
        if not isinstance(found, Path):  # a list leaves out on purpose
            self._tell_unread(entries, folders, collector)
        elif split == "train" and not self.places:
            self._tell_unlisted(found, entries, collector)
        category_ids = tuple(range(1, len(self.classes) + 1))
        return collector.dataset(self.name, split, self.classes, category_ids)

    def _image_folders(
        self, split: str, entries: list[Entry], file_names: list[str]
    ) -> dict[Path, Path]:
        """Folder of annotations -> the folder of their images."""
        chosen = self.folder(self.images, split, "images")
        of: dict[Path, list[tuple[Entry, str]]] = defaultdict(list)
        for entry, name in zip(entries, file_names, strict=True):
            of[entry.folder].append((entry, name))
        return {
            folder: chosen or self.layout.images(split, *map(list, zip(*pairs, strict=True)))
            for folder, pairs in of.items()
        }

    def _tell_unread(
        self, entries: list[Entry], folders: dict[Path, Path], collector: Collector
    ) -> None:
        """Warn of images in these folders that have no annotation."""
        read = {sample.path for sample in collector.samples}
        annotated = {entry.stem for entry in entries}
        for folder in unique(folders.values()):
            images = (folder / name for name in self.tree.images.get(folder, ()))
            lost = [path for path in images if path not in read and path.stem not in annotated]
            if lost:
                collector.warning(
                    "images without annotation",
                    self.place(folder),
                    f"{len(lost)} images have no annotation, {lost[0].name} first",
                    "not read; an annotation without objects would make one an empty image",
                )

    def _tell_unlisted(self, found: Path, entries: list[Entry], collector: Collector) -> None:
        """Warn of annotations that are in no split's list, as where a list was cut off."""
        lists = [path for path in self.layout.lists.values() if path != found]
        try:
            others = [entry for path in lists for entry in self.entries("train", path)]
        except DataError:
            return  # the split of that list reports it
        listed = {spelling(entry.stem.rpartition("/")[2]) for entry in (*entries, *others)}
        for folder in unique(entry.folder for entry in entries):
            names = self.layout.xml.get(folder, ())
            lost = [name for name in names if spelling(name[:-4]) not in listed]
            if lost:
                collector.warning(
                    "not in a list",
                    self.place(folder),
                    f"{len(lost)} annotations are in no list of {self.place(found.parent)}, "
                    f"{lost[0]} first",
                    "left out",
                )

    def _parsed(self, entry: Entry) -> Parsed:
        xml = below(self.root, entry.folder, entry.name)
        return voc_file.parse(xml) if xml is not None and xml.is_file() else (None, [], "")

    def _image(
        self, folder: Path, stem: str, file_name: str, where: str, collector: Collector
    ) -> Path | None:
        """The image of that name, else the one that the annotation names."""
        found = self.layout.image(folder, stem)
        if found is not None:
            return None if collector.skips(found) else found
        name = file_name or f"{stem}.jpg"
        bare = name.replace("\\", "/").rpartition("/")[2]
        if bare != name and below(self.root, folder, name) is None:
            name = bare if below(self.root, folder, bare) else name
        return collector.path(folder, name, where)

    def _tell_first_pixel(self, raw_boxes: list[RawBox], collector: Collector) -> None:
        """Warn where boxes contradict `first_pixel`: counted from 1, none begins at 0."""
        begins = [min(raw_box.box[:2]) + self.first_pixel for raw_box in raw_boxes]
        if self.first_pixel == 1 and (zeros := sum(begin == 0 for begin in begins)):
            collector.warning(
                "first pixel",
                self.name,
                f"{zeros} of {len(begins)} boxes begin at 0, and files that count from 1 have none",
                "read as counted from 1; data.first_pixel=0 reads them as edges",
            )
