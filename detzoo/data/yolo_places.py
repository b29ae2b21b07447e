"""Where the images, labels and class names of a YOLO data set lie, whichever tool wrote it.

The splits are, in this order: what data.yaml (Ultralytics, Roboflow, CVAT) or obj.data (darknet,
CVAT) names; images/<split>, <split>/images; lists of images (train.txt); any folder of images whose
path tells a split; and where nothing at all tells one, every image is a training image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from detzoo.data.folders import (
    Tree,
    below,
    hidden,
    image_suffixes,
    is_image,
    located,
    most,
    shortened_ways,
    split_of,
    unique,
)
from detzoo.data.source import FOLDERS, DataError
from detzoo.data.yolo_rows import Keypoints, keypoints
from detzoo.files import read_json, read_text
from detzoo.plain_yaml import read_yaml

KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES = (
    *("classes.txt", "obj.names", "data/obj.names", "labels/classes.txt", "_darknet.labels"),
    *("train/_darknet.labels", "labels.txt", "predefined_classes.txt", "classes.names"),
    *("train/classes.txt", "labels/train/classes.txt", "train/labels/classes.txt"),
)
FOLDERS_OF_LABELS = ("labels", "label", "annotations", "annots", "txt", "yolo")
FOLDERS_OF_IMAGES = {"images", "image", "imgs", "img", "jpegimages", "photos", "pictures"}
NO_LABELS = re.compile(r"readme|classes|labels|names|notes|obj|train|valid|val|test|license", re.I)


class Places:
    """What a root holds. file: its description, where `root` was given as that file."""

    def __init__(self, root: Path, tree: Tree, file: Path | None = None) -> None:
        self.root, self.tree, self.file = root, tree, file

    @cached_property
    def description(self) -> tuple[Path, dict[str, Any]] | None:
        """data.yaml or its like, and what it holds; obj.data is read as the same.

        All words in it are text. Raises DataError for one that cannot be read, and where several
        files could be it.
        """
        if self.file is not None:
            return self.file, _description(self.file)
        for name in YAMLS:
            if (path := below(self.root, self.root, name)) and path.is_file():
                return path, _description(path)
        if not self.root.is_dir():
            return None
        others = []
        for path in sorted(self.root.iterdir()):
            if path.suffix.lower() in (".yaml", ".yml") and not hidden(path.name):
                try:
                    content = read_yaml(path, as_text=True)
                except (ValueError, OSError):
                    continue  # of another program
                if isinstance(content, dict) and "names" in content:
                    others.append((path, content))
        if len(others) > 1:
            names = ", ".join(path.name for path, _ in others)
            raise DataError(
                f"{self.root}: {names} describe data sets; say which: "
                f"data.root={self.root / others[0][0].name}"
            )
        if others:
            return others[0]
        darknet = next(
            (p for n in ("obj.data", "data/obj.data") if (p := below(self.root, self.root, n))),
            None,
        )
        return (darknet, _darknet(darknet)) if darknet else None

    def named(self, split: str) -> tuple[list[str], Path] | None:
        """What the description names for a split, and the description; None if nothing."""
        if self.description is None:
            return None
        path, content = self.description
        for key in KEYS[split]:
            value = content.get(key)
            texts = [value] if isinstance(value, str) else value
            if isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts):
                texts = [text.strip() for text in texts if text.strip().lower() not in EMPTY]
                if texts:
                    return texts, path
        return None

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
        told = self.description[1].get("path")
        bases = [description.parent / told] if isinstance(told, str) else []
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
        """What the names of folders and files tell, without a description."""
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
                if split and not hidden(path.name) and _is_list(path):
                    found.setdefault(split, []).append(path)
        return found

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """Split -> the folders of images whose path tells it."""
        found: dict[str, list[Path]] = {}
        for folder in self.tree.images:
            if split := self.tree.split_of(folder):
                found.setdefault(split, []).append(folder)
        return found

    def labels(self, folder: Path, stems: Sequence[str]) -> Path:
        """Where the labels of a folder's images lie: the usual place that has most of them."""
        return most(self._places_of_labels(folder), stems, _has_label)[0]

    def _places_of_labels(self, folder: Path) -> list[Path]:
        parts = folder.relative_to(self.root).parts
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
            if split := self.tree.split_of(folder):
                places += [self.root / name / part for part in FOLDERS[split]]
            places.append(self.root / name)
        found = [located(place) or place for place in unique(places)]
        return unique(found)

    @cached_property
    def keypoints(self) -> Keypoints | None:
        """What the description says stands behind a box. Raises DataError for nonsense."""
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
                    return distinct(_lines(listed), listed)
            else:
                return distinct(_yaml_names(content["names"], path), path)
        for name in NAMES:
            path = below(self.root, self.root, name)
            if path is not None and path.is_file() and not _is_list(path):
                return distinct(_lines(path), path)
        notes = below(self.root, self.root, "notes.json")
        if notes is not None and (names := _notes(notes)):
            return distinct(names, notes)
        raise DataError(
            f"{self.root}: no class names; looked for data.yaml, dataset.yaml, classes.txt, "
            "obj.names and notes.json; give them with data.classes=[...]"
        )

    def unread(self, folder: Path, labels: Path) -> list[str]:
        """The label files of a folder that belong to no image that can be read."""
        images = {os.path.splitext(name)[0] for name in self.tree.images.get(folder, ())}
        return [
            name
            for name in self.tree.files.get(labels, ())
            if name.lower().endswith(".txt")
            and name[:-4] not in images
            and not NO_LABELS.match(name)
            and is_label(labels / name)
        ]


LOOKED_AT = 50  # files of a folder; those of images without objects are empty
EMPTY = {"", "null", "none", "~", "#"}


def root_of(path: Path) -> tuple[Path, Path | None]:
    """(the folder of the data set, its description) of a root that may be a data.yaml.

    The folder is that of the file, or where what it names lies elsewhere, what holds all of it.
    """
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return path, None
    content = _description(path)
    told = content.get("path")
    base = path.parent / told if isinstance(told, str) else path.parent
    base = base if base.is_dir() else path.parent
    homes = []
    for keys in KEYS.values():
        for key in keys:
            value = content.get(key)
            for text in value if isinstance(value, list) else [value]:
                place = Path(os.path.abspath(base / text)) if isinstance(text, str) else None
                if place is not None and place.exists() and text.lower() not in EMPTY:
                    homes.append(_home(place))
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
    return (folder / f"{stem}.txt").is_file()


def label_file(folder: Path, stem: str) -> Path:
    """The label file of an image, as it is written on the disk; perhaps not there."""
    path = folder / f"{stem}.txt"
    return located(path) or path


def text_of(path: Path) -> str:
    """A label file's text; bytes that are no text show as such in its rows."""
    try:
        return read_text(path)
    except ValueError:
        return path.read_bytes().decode("utf-8", "replace")


def lines_of(path: Path) -> list[str]:
    """A list's lines. Raises DataError for a file that is no text."""
    try:
        return read_text(path).splitlines()
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from error


def listed(root: Path, path: Path) -> list[tuple[str, int, Path | None]]:
    """(what is written, its line, the image) for every line of a list of images.

    Lines are relative to root or to the list, or begin as they did on the machine that wrote them:
    so many leading folders are left out of all as most of the images are found with.
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
    return [(text, n, image(way, text)) for text, (_, n) in zip(texts, lines, strict=True)]


def label_folders(tree: Tree) -> dict[Path, int]:
    """Folder -> its label files, for folders in whose first files there is a box."""
    found = {}
    for folder, names in tree.with_suffix([".txt"]).items():
        labels = [name for name in names if not NO_LABELS.match(name)]
        if any(is_label(folder / name) for name in labels[:LOOKED_AT]):
            found[folder] = len(labels)
    return found


def is_label(path: Path) -> bool:
    """Whether a text file's first line is one of a label file: five numbers or more."""
    try:
        with open(path, "rb") as file:
            head = file.read(400).decode("utf-8", "replace").lstrip("\ufeff").split("\n")[0].split()
        return len(head) >= 5 and all(map(_number, head[:5]))
    except OSError:
        return False


def _number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def _is_list(path: Path) -> bool:
    """Whether the first line of a text file is the path of an image."""
    try:
        with open(path, "rb") as file:
            head = file.read(1000).decode("utf-8", "replace").lstrip("\ufeff").strip()
    except OSError:
        return False
    line = head.split("\n")[0].strip().strip("'\"")
    return os.path.splitext(line)[1].lower() in image_suffixes() and is_image(os.path.basename(line))


def _description(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path, as_text=True)
    except (ValueError, OSError) as error:
        raise DataError(f"{error}; it should hold the class names under `names`") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: no list of class names under `names`")
    return content


def _darknet(path: Path) -> dict[str, Any]:
    """obj.data: lines of `key = value`."""
    pairs = (line.partition("=") for line in lines_of(path))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _lines(path: Path) -> list[str]:
    names = [line.strip() for line in lines_of(path)]
    while names and not names[-1]:
        names.pop()
    return names


def _yaml_names(names: Any, path: Path) -> list[str]:
    if isinstance(names, dict):
        try:
            numbered = {int(key): name for key, name in names.items()}
        except (TypeError, ValueError):
            numbered = {}
        if sorted(numbered) == list(range(len(names))):
            names = [numbered[label] for label in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(
            f"{path}: `names` is neither a list nor numbered 0, 1, 2, ...: {names!r:.80}"
        )
    return names


def _notes(path: Path) -> list[str]:
    """Label Studio's notes.json: categories with id and name."""
    try:
        entries = read_json(path)["categories"]
        numbered = {int(entry["id"]): str(entry["name"]) for entry in entries}
    except (ValueError, OSError, KeyError, TypeError):
        return []
    return [numbered[i] for i in range(len(numbered))] if set(numbered) == {*range(len(numbered))} else []


def distinct(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The names. Raises DataError for one that comes twice, and for one that is empty."""
    if not names:
        raise DataError(f"{path}: holds no class names; give them with data.classes=[...]")
    for label, name in enumerate(names):
        if not name:
            raise DataError(f"{path}: class {label} has no name; give all with data.classes=[...]")
        if names.index(name) < label:
            raise DataError(
                f"{path}: the class {name!r} stands there twice, as {names.index(name)} and as "
                f"{label}; write one otherwise there, or give all with data.classes=[...]"
            )
    return tuple(names)
