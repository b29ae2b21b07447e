"""The files below a data set's root: images, folders of splits, names in other spellings. All code
that reads a folder uses this module, so that everywhere hidden and side files are left out, linked
folders are followed but loops are not, every image that Pillow opens counts, and `Käfer.jpg` is
found in either Unicode normal form.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from PIL import Image

Place = TypeVar("Place")

# Left behind by file managers, archives and servers; names in lower case
SIDE = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"),
    *("system volume information", "lost+found", "__pycache__"),
}
# Registered by Pillow, but drawn by another program, or not decoded at all
NO_PICTURES = {"BUFR", "EPS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "WMF"}
NOT_READ = {".heic", ".heif", ".raw", ".cr2", ".nef", ".arw", ".dng", ".svg", ".jxl"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wmv", ".mpg", ".mpeg", ".flv"}
ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
MOST_DEPTH = 12  # folders below the root
MOST_FILES = 2_000_000
TRIED = 1000  # names that are tried to choose among several folders for a split's files

WORDS = {
    "train": {"train", "training", "trn"},
    "val": {"val", "valid", "validation", "dev", "eval"},
    "test": {"test", "testing", "tst"},
}

CONTENT = re.compile(r"(images?|imgs?|sets?|data|labels?|annotations?|annots?)$")  # trainset: train


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is no part of a data set: ._a.jpg, Thumbs.db, ..."""
    return name.startswith(".") or name.lower() in SIDE


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case with their dot, of all images that Pillow opens by itself."""
    Image.init()
    formats = Image.registered_extensions().items()
    return frozenset(s for s, f in formats if f in Image.OPEN and f not in NO_PICTURES) - {".apng"}


def is_image(name: str) -> bool:
    """Whether the name ends as an image that can be opened does, and is not `hidden`."""
    return not hidden(name) and os.path.splitext(name)[1].lower() in image_suffixes()


def images_in(folder: str | Path, *, below: bool = False) -> list[Path]:
    """The images in a folder, and with `below` in those below it, sorted by path."""
    if below:
        found = Tree(Path(folder)).images.items()
        return sorted(place / name for place, names in found for name in names)
    folder = Path(folder)
    return sorted(folder / n for n in os.listdir(folder) if is_image(n) and (folder / n).is_file())


class Tree:
    """The folders below `root`, itself among them, and the names of the files in each.

    Read once, at the first request. Links to folders are followed, except to a folder around them.
    Raises ValueError for more than two million files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def files(self) -> dict[Path, list[str]]:
        """Folder -> its files' names, sorted; folders by path."""
        found: dict[Path, list[str]] = {}
        around = tuple(_identity(f) for f in self.root.absolute().parents if f.is_dir())
        waiting = [(self.root, around)]
        count = 0
        while waiting:
            folder, above = waiting.pop()
            try:
                key = _identity(folder)
                entries = [entry for entry in os.scandir(folder) if not hidden(entry.name)]
            except OSError:
                continue  # of another user, or gone meanwhile
            if key in above or len(above) - len(around) > MOST_DEPTH:
                continue
            found[folder] = sorted(entry.name for entry in entries if not _is_folder(entry))
            waiting += [(folder / e.name, (*above, key)) for e in entries if _is_folder(e)]
            count += len(entries)
            if count > MOST_FILES:
                raise ValueError(
                    f"{self.root}: more than {MOST_FILES:,} files lie below it; name the folder of "
                    "one data set with data.root=DIR"
                )
        return dict(sorted(found.items()))

    @cached_property
    def images(self) -> dict[Path, list[str]]:
        """Folder -> the names of its images, for folders that have some."""
        return self.with_suffix(image_suffixes())

    def with_suffix(self, suffixes: Iterable[str]) -> dict[Path, list[str]]:
        """Folder -> its files with these suffixes (in lower case, with the dot), if any."""
        ends = tuple(suffixes)
        found = {
            folder: [name for name in names if name.lower().endswith(ends)]
            for folder, names in self.files.items()
        }
        return {folder: names for folder, names in found.items() if names}

    def split_of(self, folder: Path) -> str | None:
        """The split in a folder's name, or in that of the nearest folder around it."""
        for part in reversed(folder.relative_to(self.root).parts):
            if split := split_of(part):
                return split
        return None


def _identity(path: Path) -> tuple[int, int]:
    """A key that is equal for two paths of one folder."""
    about = path.stat()
    return about.st_dev, about.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def split_of(name: str) -> str | None:
    """The split that a name contains: `instances_train2017`, `Valid`, `test-images`; else None."""
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    words = {CONTENT.sub("", word) or word for word in words}
    found = {split for split, known in WORDS.items() if words & known}
    if "trainval" in words and not found:
        return "train"
    return found.pop() if len(found) == 1 else None


def located(path: Path) -> Path | None:
    """The file or folder, or the one that differs from it only in case or Unicode normal form.

    None where there is none, or where several differ in case alone.
    """
    try:
        if path.exists():
            return path
        if path.parent == path:
            return None
        folder = located(path.parent)
        if folder is None or not folder.is_dir():
            return None
        names = _spellings(str(folder), folder.stat().st_mtime_ns)
    except (OSError, ValueError):  # a name that is too long, or that holds a NUL
        return None
    exact, folded = names
    found = exact.get(composed(path.name), []) or folded.get(spelling(path.name), [])
    return folder / found[0] if len(found) == 1 else None


@lru_cache(maxsize=64)
def _spellings(folder: str, modified: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Composed name -> names on the disk, and the same without case."""
    exact: dict[str, list[str]] = {}
    folded: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        exact.setdefault(composed(name), []).append(name)
        folded.setdefault(spelling(name), []).append(name)
    return exact, folded


def composed(name: str) -> str:
    """The name with its letters composed (NFC): macOS writes them decomposed."""
    return unicodedata.normalize("NFC", name)


def spelling(name: str) -> str:
    """A key that is equal for two names that differ only in case or Unicode normal form."""
    return composed(composed(name).casefold())


def inside(root: Path, folder: Path, name: str) -> Path | None:
    """folder/name if it is inside root by its spelling, else None.

    Symbolic links are not followed: one in the root is assumed to be intended.
    """
    base = Path(os.path.abspath(root))
    path = Path(os.path.abspath(folder / name.replace("\\", "/")))
    return root / path.relative_to(base) if path.is_relative_to(base) else None


def below(root: Path, folder: Path, name: str) -> Path | None:
    """folder/name if it is inside root by its spelling and exists (see `located`)."""
    path = inside(root, folder, name) if name else None
    return located(path) if path is not None else None


def most(
    places: Iterable[Place], names: Sequence[Any], has: Callable[[Place, Any], Any]
) -> tuple[Place | None, float]:
    """The place that has most of the names, the first of those with equally many, and what part.

    With more than a thousand names, a thousand evenly spaced ones decide.
    """
    step = max(1, len(names) // TRIED)
    tried = names[::step]
    best, most_hits = None, -1
    for place in places:
        hits = sum(bool(has(place, name)) for name in tried)
        if hits > most_hits:
            best, most_hits = place, hits
        if hits == len(tried):
            break
    return best, most_hits / max(1, len(tried))


def unique(places: Iterable[Place]) -> list[Place]:
    """Without repetitions, in their order."""
    return list(dict.fromkeys(places))


def shortened_ways(text: str) -> list[str]:
    """A path as another machine wrote it, and its ends: a/b/c.jpg, b/c.jpg, c.jpg.

    For lists and descriptions whose paths begin on that machine or one folder above.
    """
    path = PurePosixPath(re.sub(r"^[A-Za-z]:", "", text.strip().replace("\\", "/")))
    parts = [part for part in path.parts if part not in ("/", ".", "..")]
    return unique([text.strip(), *("/".join(parts[start:]) for start in range(len(parts)))])


def no_data_set(root: str | Path) -> str | None:
    """Why there can be no data set, and what to do; None for a folder."""
    text, path = str(root), Path(root)
    if found := re.search(r"(?:^|/)(https?|ftp|s3|gs|hdfs|hf|file):/", text):
        text = text[found.start(1) :].replace(":/", "://").replace(":///", "://")
        return f"{text} is a URL; download it, unpack it, and name its folder: data.root=DIR"
    if path.is_dir():
        return None
    suffix = path.suffix.lower()
    if not path.exists():
        return f"{root}: no such folder; data.root=DIR names the data set"
    if suffix in VIDEOS:
        return (
            f"{root} is a video; cut it into images first (ffmpeg -i {path.name} %06d.png), and "
            "label them: data.root=DIR names the folder of both"
        )
    if suffix in ARCHIVES:
        return f"{root} is an archive; unpack it, and name its folder: data.root=DIR"
    if suffix in image_suffixes():
        return f"{root} is one image; data.root=DIR names the folder of images and annotations"
    return (
        f"{root} is a file that is no data set; data.root=DIR names its folder, its data.yaml or "
        "its COCO JSON"
    )
