"""The text files of a YOLO data set: data.yaml, obj.data, names, lists, labels."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detzoo.data.folders import Tree, below, hidden, image_suffixes, is_image
from detzoo.data.source import DataError
from detzoo.files import read_json, read_text
from detzoo.plain_yaml import read_yaml

KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
EMPTY = {"", "null", "none", "~", "#"}
YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES = (
    *("classes.txt", "obj.names", "data/obj.names", "labels/classes.txt", "_darknet.labels"),
    *("train/_darknet.labels", "labels.txt", "predefined_classes.txt", "classes.names"),
    *("train/classes.txt", "labels/train/classes.txt", "train/labels/classes.txt"),
)
NO_LABELS = re.compile(  # text files among the labels that are not labels
    r"(readme.*|license.*|classes|.*names|labels|notes|obj|train|val|valid|test)\.txt", re.I
)
LOOKED_AT = 50  # files of a folder; those of images without objects are empty


def find_description(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The data.yaml or obj.data of a folder and its content; None if it has none.

    All words in it are text. Raises DataError for one that cannot be read, and where several files
    could be it.
    """
    for name in YAMLS:
        if (path := below(root, root, name)) and path.is_file():
            return path, description(path)
    if not root.is_dir():
        return None
    others = []
    for path in sorted(root.iterdir()):
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
            f"{root}: {names} describe data sets; say which: data.root={root / others[0][0].name}"
        )
    if others:
        return others[0]
    darknet = next(
        (p for n in ("obj.data", "data/obj.data") if (p := below(root, root, n))),
        None,
    )
    return (darknet, _darknet(darknet)) if darknet else None


def named_places(content: dict[str, Any], split: str) -> list[str]:
    """The folders and lists that a description names for a split."""
    for key in KEYS[split]:
        value = content.get(key)
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            texts = [text.strip() for text in texts if text.strip().lower() not in EMPTY]
            if texts:
                return texts
    return []


def listed_names(root: Path) -> tuple[str, ...]:
    """The class names of a folder without a description. Raises DataError for none."""
    for name in NAMES:
        path = below(root, root, name)
        if path is not None and path.is_file() and not is_list(path):
            return distinct(stripped(path), path)
    others = sorted(root.glob("*.names")) if root.is_dir() else []
    if len(others) == 1 and not hidden(others[0].name):
        return distinct(stripped(others[0]), others[0])
    notes = below(root, root, "notes.json")
    if notes is not None and (names := _notes(notes)):
        return distinct(names, notes)
    raise DataError(
        f"{root}: no class names; looked for data.yaml, dataset.yaml, classes.txt, obj.names and "
        "notes.json; give them with data.classes=[...]"
    )


def lines_of(path: Path) -> list[str]:
    """A list's lines. Raises DataError for a file that is no text."""
    try:
        return read_text(path).splitlines()
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from error


def head_of(path: Path) -> str:
    """The first thousand bytes of a text file, in any encoding. Raises OSError."""
    with open(path, "rb") as file:
        data = file.read(1000)
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data[: len(data) // 2 * 2].decode("utf-16" if marked else "utf-8-sig", "replace")
    return text.strip()


def is_list(path: Path) -> bool:
    """Whether the first line of a text file is the path of an image."""
    try:
        line = head_of(path).split("\n")[0].strip().strip("'\"")
    except OSError:
        return False
    return os.path.splitext(line)[1].lower() in image_suffixes() and is_image(
        os.path.basename(line)
    )


def description(path: Path) -> dict[str, Any]:
    """The content of a data.yaml. Raises DataError."""
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


def stripped(path: Path) -> list[str]:
    """The lines of a list of names, without blanks around them and empty ones at the end."""
    names = [line.strip() for line in lines_of(path)]
    while names and not names[-1]:
        names.pop()
    return names


def yaml_names(names: Any, path: Path) -> list[str]:
    """`names` of a data.yaml, a list or numbered. Raises DataError."""
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
    return (
        [numbered[i] for i in range(len(numbered))]
        if set(numbered) == {*range(len(numbered))}
        else []
    )


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


def label_folders(tree: Tree) -> dict[Path, int]:
    """Folder -> its label files, for folders in whose first files there is a box."""
    found = {}
    for folder, names in tree.with_suffix([".txt"]).items():
        labels = [name for name in names if not NO_LABELS.fullmatch(name)]
        if any(is_label(folder / name) for name in labels[:LOOKED_AT]):
            found[folder] = len(labels)
    return found


def is_label(path: Path) -> bool:
    """Whether a text file's first line is one of a label file: five numbers or more."""
    try:
        head = head_of(path).split("\n")[0].split()
    except OSError:
        return False
    return len(head) >= 5 and all(map(_number, head[:5]))


def _number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
