"""Finds the lists, annotations and images of a Pascal VOC data set, whichever tool wrote it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from detzoo.data.folders import (
    Tree,
    below,
    composed,
    image_suffixes,
    located,
    most,
    spelling,
    unique,
)
from detzoo.data.source import FOLDERS, DataError
from detzoo.files import read_text

LISTS = "ImageSets/Main"
ANNOTATIONS = (
    *("Annotations", "Annotation", "annots", "annot", "xml", "xmls", "labels", "label"),
    "pascal",
)
IMAGES = ("JPEGImages", "images", "image", "imgs", "img", "jpg", "photos")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")  # tried first, in this order
FLAG = re.compile(r"(.*\S)\s+[-+]?[01]")  # "name -1": whether an image has a class


class Entry(NamedTuple):
    """An image of a split. stem: its name in the list, or below its folder, without suffix."""

    stem: str
    folder: Path
    name: str  # of its annotation in that folder, which is perhaps not there
    where: str


class Places:
    """The files of a root; annotations: the chosen folder, per split."""

    def __init__(self, root: Path, tree: Tree) -> None:
        self.root, self.tree = root, tree
        self._by_stem: dict[Path, dict[str, str]] = {}

    @cached_property
    def base(self) -> Path:
        """The folder with ImageSets or Annotations: root, or the only such one below it.

        Raises DataError where there are several, as in VOCdevkit.
        """
        for name in (LISTS, *ANNOTATIONS[:1]):
            if (path := below(self.root, self.root, name)) and path.is_dir():
                return self.root
        homes = unique(
            folder.parent.parent for folder in self.tree.files if folder.parts[-2:] == HOME
        ) or unique(folder.parent for folder in self.xml if folder.name == "Annotations")
        homes = [home for home in homes if self.tree.split_of(home) is None]
        if len(homes) > 1:
            names = ", ".join(home.relative_to(self.root).as_posix() for home in homes)
            raise DataError(
                f"{self.root}: holds several data sets: {names}; name one: data.root={homes[0]}"
            )
        return homes[0] if homes else self.root

    @cached_property
    def xml(self) -> dict[Path, list[str]]:
        """Folder -> its annotation files, for folders whose first XML is one."""
        found = self.tree.with_suffix([".xml"])
        return {f: names for f, names in found.items() if is_annotation_file(f / names[0])}

    def find(self, split: str, chosen: Path | None = None) -> Path | list[Path] | None:
        """The split's list, or its folders of annotations; None if it has none of them.

        chosen: the folder of annotations that a setting names for the split.
        """
        if self.lists:
            return self.lists.get(split)
        if chosen is not None:
            named = self.tree.split_of(chosen)
            return [chosen] if named == split or (named is None and split == "train") else None
        by_split: dict[str | None, list[Path]] = {}
        for folder in self.xml:
            by_split.setdefault(self.tree.split_of(folder), []).append(folder)
        if split == "train" and not {"train", "val", "test"} & set(by_split):
            return by_split.get(None)
        return by_split.get(split)

    @cached_property
    def lists(self) -> dict[str, Path]:
        """Split -> its list of images."""
        for folder in (LISTS, "ImageSets", "."):
            place = below(self.root, self.base, folder)
            if place is None or not place.is_dir():
                continue
            paths = {p.stem.lower(): p for p in sorted(place.iterdir()) if p.suffix == ".txt"}
            found = {
                split: paths[name]
                for split, names in FOLDERS.items()
                for name in reversed(names)
                if name in paths
            }
            for whole in ("trainval", "default"):
                if whole in paths and folder != ".":
                    found.setdefault("train", paths[whole])
            if found and (folder != "." or self._are_names(next(iter(found.values())))):
                return found
        return {}

    def _are_names(self, path: Path) -> bool:
        """Whether a text file lists images that have annotations."""
        try:
            entries = self.entries(path)
        except DataError:
            return False
        return any((entry.folder / entry.name).is_file() for entry in entries)

    def entries(self, found: Path | Sequence[Path], chosen: Path | None = None) -> list[Entry]:
        """The images of a list, or of folders of annotations. Raises DataError for no text."""
        if not isinstance(found, Path):
            return [
                Entry(name[:-4], folder, name, f"{folder.name}: {name[:-4]}")
                for folder in found
                for name in self.tree.files.get(folder, ())
                if name.lower().endswith(".xml")
            ]
        try:
            lines = [line.strip() for line in read_text(found).splitlines()]
        except (ValueError, OSError) as error:
            raise DataError(str(error)) from error
        lines = [line for line in lines if line]
        folders = [chosen] if chosen else self._annotation_folders()
        folder, _ = most(folders, lines, lambda folder, line: _named(self.root, folder, line)[1])
        stems = [_named(self.root, folder, line)[0] for line in lines]
        return [Entry(stem, folder, f"{stem}.xml", f"{found.name}: {stem}") for stem in stems]

    def _annotation_folders(self) -> list[Path]:
        """Possible folders of a list's annotations, the usual places first."""
        usual = [located(self.base / name) for name in ANNOTATIONS]
        usual = [folder for folder in usual if folder is not None and folder.is_dir()]
        return unique([*usual, *self.xml, self.base]) or [self.base / "Annotations"]

    def images(self, split: str, entries: Sequence[Entry], file_names: Sequence[str]) -> Path:
        """The folder that has most of the images; file_names: as the annotations have them."""
        places = self._image_folders(split, entries)
        own = [place for place in places if self.tree.split_of(place) in (None, split)]
        stems = [entry.stem for entry in entries]
        best, part = most(own, stems, self._has)
        if part < 0.5:
            more = (most(places, file_names, self._has_named), most(places, stems, self._has))
            for other, of_other in more:
                best, part = (other, of_other) if of_other > part else (best, part)
        return best

    def _has(self, folder: Path, stem: str) -> bool:
        return self.image(folder, stem) is not None

    def _has_named(self, folder: Path, name: str) -> bool:
        path = below(self.root, folder, name)
        return path is not None and path.is_file()

    def _image_folders(self, split: str, entries: Sequence[Entry]) -> list[Path]:
        """Possible image folders, the usual places first."""
        xml = unique(entry.folder for entry in entries)
        places = [self.base / name for name in IMAGES]
        for folder in xml[:20]:
            parts = folder.relative_to(self.root).parts
            for index in reversed(range(len(parts))):
                if parts[index].lower() in {name.lower() for name in ANNOTATIONS}:
                    places += [
                        self.root.joinpath(*parts[:index], name, *parts[index + 1 :])
                        for name in IMAGES
                    ]
                    break
            places += [folder, *(folder.parent / name for name in IMAGES), folder.parent]
        places += [self.base / name for name in FOLDERS[split]]
        found = [located(place) or place for place in [*places, *self.tree.images, self.base]]
        below_root = (place for place in unique(found) if place.is_relative_to(self.root))
        return [place for place in below_root if place.is_dir()] or [self.base]

    def image(self, folder: Path, stem: str) -> Path | None:
        """The image in that folder with that name and any suffix; None if there is none."""
        place = folder / stem
        if place.parent not in self._by_stem:
            self._by_stem[place.parent] = _by_stem(self.tree.images.get(place.parent, ()))
        names = self._by_stem[place.parent]
        for key in (place.name, composed(place.name), spelling(place.name)):
            if key in names:
                return place.parent / names[key]
        return None


HOME = tuple(LISTS.split("/"))


def _by_stem(names: Sequence[str]) -> dict[str, str]:
    """Name without suffix -> an image's name, also by composed letters and without case."""

    def order(name: str) -> tuple[int, str]:
        suffix = os.path.splitext(name)[1].lower()
        return (SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES), name)

    found: dict[str, str] = {}
    ordered = sorted(names, key=order)
    for key in (str, composed, spelling):
        for name in ordered:
            found.setdefault(key(os.path.splitext(name)[0]), name)
    return found


def _named(root: Path, folder: Path, line: str) -> tuple[str, Path | None]:
    """(the image's name without suffix, its annotation) that a line of a list means.

    A line may be a name, a name with a suffix or a path, with a flag behind it, or the paths of an
    image and of its annotation.
    """
    ways = [line]
    if flagged := FLAG.fullmatch(line):
        ways.append(flagged[1])
    if line.lower().endswith(".xml") and (pair := re.split(r"\s+", line)) and len(pair) == 2:
        ways.append(pair[1])
    for text in ways:
        for stem in _stems_of(text):
            path = below(root, folder, f"{stem}.xml")
            if path is not None and path.is_file():
                return stem, path
    return _stems_of(ways[1] if len(ways) > 1 else line)[0], None


def _stems_of(text: str) -> list[str]:
    """The possible forms of a name without its suffix and folders."""
    path = PurePosixPath(text.replace("\\", "/"))
    whole = str(path)
    suffix = path.suffix.lower()
    bare = whole[: -len(suffix)] if suffix in image_suffixes() | {".xml"} else whole
    return unique([bare, whole, PurePosixPath(bare).name])


def is_annotation_file(path: Path) -> bool:
    """Whether an XML is one image's annotation, by its beginning."""
    try:
        with open(path, "rb") as file:
            return re.search(rb"<annotation[\s>]", file.read(4096).replace(b"\0", b"")) is not None
    except OSError:
        return False
