"""Pascal VOC: an XML per image in Annotations/, images in JPEGImages/, lists in ImageSets/Main."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from detzoo.data import voc_file
from detzoo.data.collect import Collector, inside
from detzoo.data.dataset import Dataset
from detzoo.data.source import DataError, Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".JPG", ".JPEG", ".PNG")
LISTS = "ImageSets/Main"


class Voc(Source):
    """A folder in the layout of the Pascal VOC challenges.

    splits: list of image names per split, relative to root; without it ImageSets/Main/<split>.txt;
    where there are no lists at all, every annotation is a training image. classes: names in the
    order of the labels; without it the names in the training annotations, sorted. first_pixel: 1
    for files like the challenges' own, which count pixels from 1 and mean xmax inclusively; 0 for
    tools that write a box's edges (labelImg and most others). options: see Source.
    """

    format = "voc"

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        first_pixel: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(root, name, **options)
        if first_pixel not in (0, 1):
            raise ValueError(f"first_pixel is {first_pixel!r}; it is 1 or 0")
        self.first_pixel = first_pixel

    def find(self, split: str) -> Path | None:
        if named := self.named(split):
            return named
        path = self.root / LISTS / f"{split}.txt"
        if path.is_file():
            return path
        folder = self.root / "Annotations"
        if split == "train" and folder.is_dir() and not (self.root / LISTS).is_dir():
            return folder
        return None

    def looked_for(self, split: str) -> str:
        return (
            f"looked for {self.root / LISTS / split}.txt; name a list of image names with "
            f"data.splits.{split}=FILE"
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        if self._given_classes:
            return self._given_classes
        found = next(filter(None, map(self.find, ("train", "val", "test"))), None)
        if found is None:
            raise DataError(f"{self.name} has no list of images: {self.looked_for('train')}")
        names: set[str] = set()
        for stem in _stems(found):
            path = inside(self.root, self.root / "Annotations", f"{stem}.xml")
            if path is not None and path.is_file():
                objects = voc_file.parse(path)[1]
                names.update(voc_file.text(item, "name") for item, _ in objects)
        names.discard("")
        if not names:
            raise DataError(f"{found}: no annotation of these has an object; is data.root right?")
        return tuple(sorted(names))

    def read_found(self, split: str, found: Path) -> Dataset:
        collector = self.collector()
        labels = {name: label for label, name in enumerate(self.classes)}
        for id, stem in enumerate(_stems(found), 1):
            xml = collector.path(
                self.root / "Annotations", f"{stem}.xml", f"{found.name}: {stem}", "annotation"
            )
            if xml is None:
                continue
            where = f"Annotations/{stem}.xml"
            tree, objects, wrong = voc_file.parse(xml)
            if tree is None:
                collector.error("malformed entry", where, wrong, "image and boxes left out")
                continue
            path = self._image(stem, voc_file.text(tree, "filename"), where, collector)
            if path is None:
                continue
            size = collector.told_size(
                voc_file.text(tree, "size/height"), voc_file.text(tree, "size/width"), path, where
            )
            if size is not None:
                claims = [
                    voc_file.claim(item, labels, self.first_pixel, f"{where}:{line}")
                    for item, line in objects
                ]
                collector.add(id, path, size, claims)
        category_ids = tuple(range(1, len(self.classes) + 1))
        return collector.dataset(self.name, split, self.classes, category_ids)

    def _image(self, stem: str, told: str, where: str, collector: Collector) -> Path | None:
        """The image of that name, else the one that the annotation tells."""
        folder = self.root / "JPEGImages"
        for suffix in SUFFIXES:
            path = inside(self.root, folder, stem + suffix)
            if path is not None and path.is_file():
                return path
        return collector.path(folder, told or f"{stem}.jpg", where)


def _stems(found: Path) -> list[str]:
    """Image names without suffix: of a list file, or of every annotation in a folder."""
    if found.is_dir():
        return sorted(path.stem for path in found.glob("*.xml"))
    lines = found.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]
