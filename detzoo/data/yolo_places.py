"""Finds the images, labels and class names of a YOLO data set, whichever tool wrote it.

The splits are, in this order: what data.yaml (Ultralytics, Roboflow, CVAT) or obj.data (darknet,
CVAT) names; images/<split>, <split>/images; lists of images (train.txt); any folder of images whose
path names a split; and if nothing names one, every image is a training image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from detzoo.data.folders import (
    Tree,
    below,
    hidden,
    located,
    most,
    shortened_ways,
    spelling,
    split_of,
    unique,
)
from detzoo.data.source import FOLDERS, DataError
from detzoo.data.yolo_description import (
    KEYS,
    NO_LABELS,
    description,
    distinct,
    find_description,
    is_label,
    is_list,
    label_folders,
    lines_of,
    listed_names,
    named_places,
    stripped,
    yaml_names,
)
from detzoo.data.yolo_rows import Keypoints, keypoints
from detzoo.files import read_text

FOLDERS_OF_LABELS = ("labels", "label", "annotations", "annots", "txt", "yolo")
FOLDERS_OF_IMAGES = {"images", "image", "imgs", "img", "jpegimages", "photos", "pictures"}


class Places:
    """The files of a root. file: its description, if `root` was given as that file."""

    def __init__(self, root: Path, tree: Tree, file: Path | None = None) -> None:
        self.root, self.tree, self.file = root, tree, file

    @cached_property
    def description(self) -> tuple[Path, dict[str, Any]] | None:
        """data.yaml or similar, and its content; obj.data is read into the same form.

        All words in it are text. Raises DataError for one that cannot be read, and where several
        files could be it.
        """
        if self.file is not None:
            return self.file, description(self.file)
        return find_description(self.root)

    def named(self, split: str) -> tuple[list[str], Path] | None:
        """The description's entry for a split, and the description; None if it has none."""
        if self.description is None:
            return None
        path, content = self.description
        texts = named_places(content, split)
        return (texts, path) if texts else None

    def find(self, split: str) -> list[Path] | None:
        """Folders and lists of images; None if the split is not there."""
        if named := self.named(split):
            found = [self._resolved(text, named[1]) for text in named[0]]
            if all(found):
                return found
            if any(found):
                lost = next(t for t, f in zip(named[0], found, strict=True) if not f)
                raise DataError(f"{named[1]}: {split} names {lost}, which is not there")
        if found := self.usual(split):
            return found
        if split == "train" and not any(self.named(s) or self.usual(s) for s in FOLDERS):
            images = below(self.root, self.root, "images")
            return [images if images and images.is_dir() else self.root]
        return None

    def _resolved(self, text: str, description: Path) -> Path | None:
        """The folder or list that the description means, inside root.

        Tried are: relative to its `path`, to its own folder and to root; then without what leads
        there on the machine that wrote it.
        """
        stated = self.description[1].get("path")
        bases = [description.parent / stated] if isinstance(stated, str) else []
        bases = unique([*bases, description.parent, self.root])
        tells = _tells_split(text)
        for way in shortened_ways(text):
            if tells and not _tells_split(way):
                break  # .../valid/images is not to be found as any images/
            for base in bases:
                path = below(self.root, base, way)
                if path is not None and (path != self.root or not text.strip("./")):
                    return path
        return None

    def usual(self, split: str) -> list[Path] | None:
        """The splits by the names of folders and files, without a description."""
        for name in FOLDERS[split]:
            for folder in (f"images/{name}", f"{name}/images"):
                path = below(self.root, self.root, folder)
                if path is not None and path.is_dir():
                    return [path]
        return self._lists.get(split) or self._folders.get(split)

    @cached_property
    def _lists(self) -> dict[str, list[Path]]:
        """Split -> its lists of images at the root or in data/, ImageSets/."""
        found: dict[str, list[Path]] = {}
        for folder in ("", "data", "ImageSets", "ImageSets/Main"):
            place = below(self.root, self.root, folder) if folder else self.root
            if place is None or not place.is_dir():
                continue
            for path in sorted(place.glob("*.txt")):
                split = split_of(path.stem)
                if split and not hidden(path.name) and is_list(path):
                    found.setdefault(split, []).append(path)
        return found

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """Split -> the folders of images whose path names it."""
        found: dict[str, list[Path]] = {}
        for folder in self.tree.images:
            if split := self.tree.split_of(folder):
                found.setdefault(split, []).append(folder)
        return found

    def labels(self, folder: Path, stems: Sequence[str]) -> Path:
        """The folder of the labels of a folder's images: the usual place that has most of them."""
        return most(self._places_of_labels(folder), stems, _has_label)[0]

    def _places_of_labels(self, folder: Path) -> list[Path]:
        parts = folder.relative_to(self.root).parts
        split = self.tree.split_of(folder)
        places = []
        for index in reversed(range(len(parts))):
            if parts[index].lower() in FOLDERS_OF_IMAGES:
                for name in FOLDERS_OF_LABELS:
                    places.append(self.root.joinpath(*parts[:index], name, *parts[index + 1 :]))
                break
        places.append(folder)
        for name in FOLDERS_OF_LABELS:
            places += [folder / name, self.root.joinpath(name, *parts)]
            if parts:
                places += [folder.parent / name, self.root.joinpath(name, parts[-1])]
            if split:
                places += [self.root / name / part for part in FOLDERS[split]]
            places.append(self.root / name)
        found = [located(place) or place for place in unique(places)]
        of_split = [f for f in self._label_folders if self.tree.split_of(f) == split]
        return unique([*found, *of_split])

    @cached_property
    def _label_folders(self) -> list[Path]:
        return list(label_folders(self.tree))

    @cached_property
    def keypoints(self) -> Keypoints | None:
        """The keypoints that follow a box, by the description. Raises DataError for nonsense."""
        if self.description is None:
            return None
        path, content = self.description
        try:
            return keypoints(content)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    def class_names(self) -> tuple[str, ...]:
        """The names in the order of the labels. Raises DataError for none."""
        if self.description is not None and "names" in self.description[1]:
            path, content = self.description
            if isinstance(content["names"], str) and path.suffix == ".data":
                listed = self._resolved(content["names"], path)
                if listed is not None:
                    return distinct(stripped(listed), listed)
            else:
                return distinct(yaml_names(content["names"], path), path)
        return listed_names(self.root)

    def unread(self, folders: Sequence[Path], labels: Path) -> list[str]:
        """The label files of a folder that belong to no image that can be read.

        folders: those of the images of these labels. Labels outside of the folders of their split
        may be of any image.
        """
        if any(self.tree.split_of(folder) != self.tree.split_of(labels) for folder in folders):
            folders = list(self.tree.images)
        names = (name for folder in folders for name in self.tree.images.get(folder, ()))
        images = {spelling(os.path.splitext(name)[0]) for name in names}
        return [
            name
            for name in self.tree.files.get(labels, ())
            if name.lower().endswith(".txt")
            and spelling(name[:-4]) not in images
            and not NO_LABELS.fullmatch(name)
            and is_label(labels / name)
        ]


def root_of(path: Path) -> tuple[Path, Path | None]:
    """(the folder of the data set, its description) of a root that may be a data.yaml.

    The folder is that of the file, or, if its paths lead elsewhere, the one that contains them all.
    """
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return path, None
    content = description(path)
    stated = content.get("path")
    base = path.parent / stated if isinstance(stated, str) else path.parent
    base = base if base.is_dir() else path.parent
    texts = [text for split in KEYS for text in named_places(content, split)]
    places = [Path(os.path.abspath(base / text)) for text in texts]
    homes = [_home(place) for place in places if place.exists()]
    own = Path(os.path.abspath(path.parent))
    if not homes or all(home.is_relative_to(own) for home in homes):
        return path.parent, path
    home = Path(os.path.commonpath(homes))
    return (home if home.parent != home else path.parent), path


def _tells_split(text: str) -> bool:
    return any(map(split_of, text.replace("\\", "/").split("/")))


def _home(place: Path) -> Path:
    """The folder that holds images and labels, of a folder or a list of images."""
    for folder in (place, *place.parents):
        if folder.name.lower() in FOLDERS_OF_IMAGES:
            return folder.parent
    return place if place.is_dir() else place.parent


def _has_label(folder: Path, stem: str) -> bool:
    return label_file(folder, stem).is_file()


def label_file(folder: Path, stem: str) -> Path:
    """The label file of an image, as spelled on the disk; it may not exist."""
    path = folder / f"{stem}.txt"
    return located(path) or path


def text_of(path: Path) -> str:
    """A label file's text; bytes that are no text show as such in its rows."""
    try:
        return read_text(path)
    except ValueError:
        return path.read_bytes().decode("utf-8", "replace")


def listed(root: Path, path: Path) -> list[tuple[str, int, Path | None]]:
    """(the path that is meant, its line, the image if it is there) for every line of a list.

    Lines are relative to root or to the list, or start with folders of the machine that wrote them:
    from all lines, that number of leading folders is removed with which most images are found.
    """
    lines = [(line.strip(), n) for n, line in enumerate(lines_of(path), 1) if line.strip()]
    texts = [text.strip("'\"") for text, _ in lines]
    depth = max((len(shortened_ways(text)) for text in texts[:100]), default=1)
    bases = unique([root, path.parent])
    ways = [(base, cut) for cut in range(depth) for base in bases]

    def image(way: tuple[Path, int], text: str) -> Path | None:
        base, cut = way
        texts = shortened_ways(text)
        found = below(root, base, texts[cut]) if cut < len(texts) else None
        return found if found and found.is_file() else None

    if not texts:
        return []
    way, _ = most(ways, texts, lambda way, text: image(way, text) is not None)
    meant = [(shortened_ways(text)[way[1] :] or [text])[0] for text in texts]
    return [
        (path, n, image(way, text)) for path, text, (_, n) in zip(meant, texts, lines, strict=True)
    ]
