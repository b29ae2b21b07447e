"""Finds the annotation files and images of a COCO data set, whichever tool wrote it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from detzoo.data.folders import TRIED, Tree, below, most, split_of, unique
from detzoo.data.source import FOLDERS, DataError
from detzoo.files import read_text

FILES = (
    "{}.json",
    "annotations/{}.json",
    "annotations/instances_{}.json",
    "{}/_annotations.coco.json",
    "{}/annotations.json",
)
WHOLE = ("_annotations.coco.json", "annotations.json")  # of a data set without splits
FOLDERS_OF_JSON = {"annotations", "annotation", "labels", "json", "jsons", "coco"}
END = 1 << 16  # bytes at either end of a file that show whether it is COCO's
MOST_FILES = 200  # JSON files in a folder: more are not annotation files of splits


class Images(NamedTuple):
    """The folder of a file's images. cut: whether only the last part of a file name counts."""

    folder: Path
    cut: bool

    def name(self, file_name: str) -> str:
        return base_name(file_name) if self.cut else file_name


def base_name(file_name: str) -> str:
    """The last part of a path of any system."""
    return PurePosixPath(file_name.replace("\\", "/")).name


class Places:
    """The files of a root. file: an annotation file, if `root` was given as that file."""

    def __init__(self, root: Path, tree: Tree, file: Path | None = None) -> None:
        self.root, self.tree, self.file = root, tree, file

    def find(self, split: str) -> Path | None:
        """The split's annotation file: from the usual places, else any whose path names the split.

        The file that was given as root is train's. Raises DataError where several could be meant.
        """
        if self.file is not None:
            if split == "train":
                return self.file
            found = self._usual(split) or self._told.get(split)
            return None if found is None or found.samefile(self.file) else found
        return self._usual(split) or self._told.get(split)

    def _usual(self, split: str) -> Path | None:
        paths = [form.format(name) for name in FOLDERS[split] for form in FILES]
        paths += WHOLE if split == "train" else ()
        found = (below(self.root, self.root, path) for path in paths)
        return next((path for path in found if path is not None and path.is_file()), None)

    @cached_property
    def _told(self) -> dict[str, Path]:
        """Split -> the one file whose name, or whose folder's name, has it; a single one is
        train's."""
        files: dict[str, list[Path]] = {}
        for path in annotation_files(self.tree):
            split = split_of(path.stem) or self.tree.split_of(path.parent) or ""
            files.setdefault(split, []).append(path)
        if len(files) == 1 and "" in files and not any(map(self._usual, ("val", "test"))):
            files = {"train": files[""]}
        return {split: self._one(split, paths) for split, paths in files.items() if split}

    def _one(self, split: str, paths: list[Path]) -> Path:
        boxes = [path for path in paths if "instances" in path.stem.lower()]
        paths = boxes if len(boxes) == 1 else paths
        if len(paths) > 1:
            names = ", ".join(path.relative_to(self.root).as_posix() for path in paths[:5])
            raise DataError(
                f"{self.root}: {len(paths)} COCO files could be {split}: {names}; say which: "
                f"data.splits.{split}=FILE"
            )
        return paths[0]

    def images(self, split: str, file: Path, names: Sequence[str]) -> Images:
        """The folder that has most of a file's images; names: their file_names."""
        tried = names[:: max(1, len(names) // TRIED)]
        places = unique(self._folders(split, file, tried))
        own = [place for place in places if self.tree.split_of(place.folder) in (None, split)]
        best, part = most(own, tried, self.has)
        if part < 0.5:  # another split's folder may have images of the same names
            best, part = most(places, tried, self.has)
        if part == 0:  # it is nowhere; so the error names where it was searched
            usual = (self.root / "images", file.parent, self.root)
            return Images(next(folder for folder in usual if folder.is_dir()), False)
        return best

    def has(self, place: Images, file_name: str) -> bool:
        """Whether the image of that name is there."""
        path = below(self.root, place.folder, place.name(file_name))
        return path is not None and path.is_file()

    def _folders(self, split: str, file: Path, names: Sequence[str]) -> Iterator[Images]:
        """Possible image folders: by the split's name, the file's, and their own."""
        called = list(FOLDERS[split]) + _called(file)
        folders = [self.root / "images" / name for name in FOLDERS[split]]
        folders += [self.root / name for name in FOLDERS[split]]
        folders += [self.root / "images", file.parent, self.root]
        for home in (self.root, file.parent.parent, file.parent):
            for name in called:
                folders += [home / "images" / name, home / name, home / name / "images"]
            folders.append(home / "images")
        inside = [f for f in unique(folders) if f.is_relative_to(self.root) and f.is_dir()]
        yield from (Images(folder, False) for folder in inside)
        yield from self._voted(names)
        yield from (Images(folder, True) for folder in inside)

    def _voted(self, names: Sequence[str]) -> list[Images]:
        """The folders of this tree that contain most of the names, best first."""
        at: dict[str, list[Path]] = {}
        for folder, files in self.tree.images.items():
            for name in files:
                at.setdefault(name, []).append(folder)
        votes: Counter[Images] = Counter()
        for name in names:
            above = PurePosixPath(name.replace("\\", "/")).parent.parts
            for folder in at.get(base_name(name), ()):
                votes[Images(folder, bool(above))] += 1
                if above and folder.parts[-len(above) :] == above:
                    home = Path(*folder.parts[: -len(above)])
                    if home.is_relative_to(self.root):
                        votes[Images(home, False)] += 1
        ranked = votes.most_common()
        return [place for place, _ in sorted(ranked, key=lambda v: (-v[1], v[0].cut))[:20]]


def _called(file: Path) -> list[str]:
    """Possible names of a file's image folder: instances_train2017 -> that, and train2017."""
    parts = re.split(r"[_.\- ]", file.stem)
    return unique([file.stem, *("_".join(parts[i:]) for i in range(1, len(parts)))])


def annotation_files(tree: Tree) -> list[Path]:
    """The COCO annotation files of boxes in a tree, by path."""
    return [
        folder / name
        for folder, names in tree.with_suffix([".json"]).items()
        if len(names) <= MOST_FILES
        for name in names
        if is_annotation_file(folder / name)
    ]


def is_annotation_file(path: Path) -> bool:
    """Whether a JSON is COCO's and has categories and annotations, by its two ends."""
    try:
        with open(path, "rb") as file:
            data = file.read(END)
            file.seek(max(len(data), path.stat().st_size - END))
            data += file.read(END)
    except OSError:
        return False
    text = data.replace(b"\0", b"")  # UTF-16 of these words
    return (
        b'"images"' in text
        and (b'"annotations"' in text or b'"category_id"' in text)
        and (b'"categories"' in text or b'"category_id"' in text)
    )


NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


def file_names(path: Path) -> list[str]:
    """The images that a file names, without parsing it. Raises DataError for no text."""
    try:
        return _file_names(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise DataError(str(error)) from error


@lru_cache(maxsize=8)
def _file_names(path: Path, modified: int) -> list[str]:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{error}; restore the annotation file") from error
    names = []
    for match in NAME.finditer(text):
        try:
            names.append(json.loads(match[1]))
        except ValueError:
            continue
    return names


def count_images(path: Path) -> int:
    """How many images a file names, at least 1."""
    return max(1, len(file_names(path)))


def root_of(path: Path) -> tuple[Path, Path | None]:
    """(the folder of the data set, the annotation file) of a root that may be such a file."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return path, None
    folder = path.parent
    beside = (other / path.name for other in folder.parent.iterdir() if split_of(other.name))
    outer = folder.name.lower() in FOLDERS_OF_JSON and folder.parent != folder
    if split_of(folder.name) and sum(other.is_file() for other in beside) > 1:
        outer = True  # train/_annotations.coco.json beside valid/_annotations.coco.json
    return (folder.parent if outer else folder), path
