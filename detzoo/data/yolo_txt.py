"""YOLO text: a .txt per image; a line per box: class, centre x, y, width, height, all in 0..1."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import yaml

from detzoo.data.collect import Claim, Collector
from detzoo.data.dataset import Dataset
from detzoo.data.source import FOLDERS, DataError, Source
from detzoo.data.yolo_rows import claims

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class YoloTxt(Source):
    """Images with a text file beside or parallel to each.

    The labels of .../images/.../a.jpg lie in .../labels/.../a.txt, or beside the image where no
    folder is named images. splits: image folder, or text file with an image path per line, per
    split, relative to root; without it images/<split> and <split>/images are searched; where there
    is neither, all of images/ (or of root) are training images. classes: names in the order of the
    labels; without it from data.yaml, dataset.yaml, classes.txt or obj.names. A line with more than
    five numbers is a polygon (class x1 y1 x2 y2 ...); its box is taken.
    """

    format = "yolo_txt"

    def find(self, split: str) -> Path | None:
        if named := self.named(split):
            return named
        found = self._folder(split)
        if found is None and split == "train" and not any(map(self._folder, ("val", "test"))):
            images = self.root / "images"
            return images if images.is_dir() else self.root
        return found

    def _folder(self, split: str) -> Path | None:
        folders = (
            folder
            for name in FOLDERS[split]
            for folder in (self.root / "images" / name, self.root / name / "images")
        )
        return next((folder for folder in folders if folder.is_dir()), None)

    def looked_for(self, split: str) -> str:
        return (
            f"looked in {self.root} for images/{split} and {split}/images; name the image folder, "
            f"or a text file with an image path per line, with data.splits.{split}=PLACE"
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        if self._given_classes:
            return self._given_classes
        for file in ("data.yaml", "data.yml", "dataset.yaml"):
            path = self.root / file
            if path.is_file():
                return _yaml_names(path)
        for file in ("classes.txt", "obj.names", "labels/classes.txt"):
            path = self.root / file
            if path.is_file():
                names = tuple(line.strip() for line in path.read_text("utf-8").splitlines())
                while names and not names[-1]:
                    names = names[:-1]
                return names
        raise DataError(
            f"{self.root}: no class names; looked for data.yaml, dataset.yaml, classes.txt and "
            "obj.names; give them with data.classes=[...]"
        )

    def read_found(self, split: str, found: Path) -> Dataset:
        collector = self.collector()
        for id, (path, where) in enumerate(self._images(found, collector), 1):
            size = collector.size(path, where)
            if size is not None:
                collector.add(id, path, size, self._claims(path, size, collector))
        category_ids = tuple(range(1, len(self.classes) + 1))
        return collector.dataset(self.name, split, self.classes, category_ids)

    def _images(self, found: Path, collector: Collector) -> list[tuple[Path, str]]:
        """Image paths, and where they are told."""
        if found.is_dir():
            paths = sorted(p for p in found.rglob("*") if p.suffix.lower() in SUFFIXES)
            return [(path, path.relative_to(self.root).as_posix()) for path in paths]
        images = []
        text = found.read_text(encoding="utf-8", errors="replace")
        for number_, line in enumerate(text.splitlines(), 1):
            if line.strip():
                where = f"{found.name}:{number_}"
                path = collector.path(self.root, line.strip(), where)
                if path is not None:
                    images.append((path, where))
        return images

    def _claims(self, path: Path, size: tuple[int, int], collector: Collector) -> list[Claim]:
        labels = _label_file(self.root, path)
        where = labels.relative_to(self.root).as_posix()
        if not labels.is_file():
            collector.warning(
                "no label file",
                path.relative_to(self.root).as_posix(),
                f"{where} is not there",
                "an image without boxes",
            )
            return []
        text = labels.read_bytes().decode("utf-8", "replace")
        return claims(text, where, size, self.classes, collector)


def _label_file(root: Path, image: Path) -> Path:
    """.../images/.../a.jpg -> .../labels/.../a.txt; beside the image where nothing is so named."""
    parts = list(image.relative_to(root).parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _yaml_names(path: Path) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no list of class names under `names` ({error})") from error
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[label] for label in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{path}: `names` is neither a list nor numbered 0, 1, 2, ...: {names!r:.80}"
        )
    return tuple(map(str, names))
