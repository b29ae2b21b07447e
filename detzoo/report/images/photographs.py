"""The photographs that a page may show: those that a run keeps, or those in a named folder. A run
directory may come from somebody else, so a report does not trust the paths in it: images are read
only in the run's own folder, or below data.root=DIR, which the report's author gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from detzoo import files, imagefile
from detzoo.report.load.values import clean, dig, number

FOLDER = "images"  # of a run
KEPT, SIDE, QUALITY = 24, 640, 85  # photographs of a run; pixels of the longer side; of the JPEG
NONE_KEPT = "the run does not keep this image"
NO_IMAGES = (
    "No images are shown: these runs keep none (detzoo evaluate RUNS puts some into them), and "
    "none are read elsewhere unless data.root=DIR says where the data set lies."
)
FEW_IMAGES = (
    "Of the {kept} test images that the runs keep; data.root=DIR, the data set's folder, shows "
    "those of all {images}."
)


class Photograph(NamedTuple):
    """size: (width, height) of the original, which boxes are in; the image may be smaller."""

    image: Image.Image
    size: tuple[int, int]


def save_photographs(dataset: Mapping[str, Any], run: Path) -> None:
    """Write KEPT test images into the run, at most SIDE pixels long, for its reports.

    dataset: what dataset.json holds, with the folder of the images as `root`. Which ones is decided
    by the data set alone, so that all its runs keep the same; those of an earlier scoring go.
    Raises OSError where they cannot be written.
    """
    wanted = {f"{record['id']}.jpg": record for record in choose(dataset, KEPT)}
    folder = _own_folder(run)
    for name in set(_kept(run)) - set(wanted):
        (folder / name).unlink()
    for name, record in wanted.items():
        found = photograph(dataset, record)
        if isinstance(found, str):
            continue
        found.image.thumbnail((SIDE, SIDE))
        with files.atomic(folder / name) as temporary:
            found.image.save(temporary, "JPEG", quality=QUALITY)


def copy_photographs(source: Path, target: Path) -> None:
    """Copy the photographs kept in the run `source` to the run `target`. Raises OSError."""
    folder = _own_folder(target)
    for name in _kept(source):
        with files.atomic(folder / name) as temporary:
            temporary.write_bytes(files.inside(source / FOLDER, name).read_bytes())


def photograph(dataset: Mapping[str, Any], record: Mapping[str, Any]) -> Photograph | str:
    """The record's image as RGB, the way up that its boxes are, or why there is none.

    dataset: as `Run.dataset` gives it. It is read in `root` if given, else in `run`.
    """
    root, run = dataset.get("root"), dataset.get("run")
    try:
        if root is None and run is not None:
            return _of_run(Path(run), record)
        return _of_data(root, record)
    except FileNotFoundError:
        return "the image file is not there"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"the image cannot be read ({clean(error, 120)})"


def _of_run(run: Path, record: Mapping[str, Any]) -> Photograph | str:
    name = f"{record.get('id')}.jpg"
    size = number(record, "width"), number(record, "height")
    if type(record.get("id")) is not int or not (run / FOLDER / name).is_file():
        return NONE_KEPT
    if not min(size) >= 1:
        return "dataset.json does not say how large the image is"
    with Image.open(files.inside(run, f"{FOLDER}/{name}"), formats=["JPEG"]) as image:
        return Photograph(image.convert("RGB"), (round(size[0]), round(size[1])))


def _of_data(root: Any, record: Mapping[str, Any]) -> Photograph | str:
    name = record.get("file_name")
    if not isinstance(root, str) or not isinstance(name, str):
        return "dataset.json does not say where the image is"
    path = inside(Path(root), name)
    if path is None:
        return "refused: its path leaves the data set's folder"
    if path.suffix.lower() not in Image.registered_extensions() or not path.is_file():
        # The path comes from dataset.json, which is not trusted: only images are opened.
        return "the image file is not there"
    annotated = (number(record, "height"), number(record, "width"))
    with imagefile.open_image(path) as image:
        found = imagefile.Header((image.height, image.width), imagefile.orientation(image))
        exif = record["exif"] if record.get("exif") in imagefile.EXIF else "auto"
        turn = imagefile.needs_turning(found, annotated, exif)
        pixels = imagefile.turn_upright(image.convert("RGB"), found.orientation if turn else 1)
        return Photograph(pixels, pixels.size)


def showable(dataset: Mapping[str, Any]) -> set[int] | None:
    """The ids of the images that can be shown at all; None for any, where a folder is named."""
    if dataset.get("root") is not None or dataset.get("run") is None:
        return None
    return {int(Path(name).stem) for name in _kept(Path(dataset["run"]))}


def choose(dataset: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """`count` image records, evenly spaced by the number of their boxes (and by id among equals)
    among those with boxes, or among all if none has: from few objects to many.

    They are of the KEPT that runs keep; only of `showable` ones, unless there are none.
    """
    records = [r for r in get_list(dataset, "images") if isinstance(r, dict) and key_of(r, "id")]
    boxes = Counter(
        key_of(annotation, "image_id") for annotation in get_list(dataset, "annotations")
    )
    kept = showable(dataset)
    records = [r for r in records if kept is None or r["id"] in kept] or records
    records = [r for r in records if boxes[key_of(r, "id")]] or records
    records.sort(key=lambda r: (boxes[key_of(r, "id")], key_of(r, "id")))
    return _spaced(_spaced(records, KEPT), count)


def _spaced(records: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    step = len(records) / count
    return records if step <= 1 else [records[int(step * (i + 0.5))] for i in range(count)]


def inside(root: Path, name: str) -> Path | None:
    """root/name, or None if that leaves root: a file list must not reach the rest of a disk."""
    path = (root / name).resolve()
    return path if path.is_relative_to(root.resolve()) else None


def _own_folder(run: Path) -> Path:
    """Where the run keeps photographs. A link there may lead anywhere and goes: nothing is written
    through it."""
    folder = run / FOLDER
    if folder.is_symlink():
        folder.unlink()
    return folder


def _kept(run: Path) -> list[str]:
    """The names of the photographs that a run keeps, all numbers."""
    with suppress(OSError, ValueError):
        folder = files.inside(run, FOLDER)
        return sorted(p.name for p in folder.glob("*.jpg") if p.stem.isascii() and p.stem.isdigit())
    return []


def get_list(value: Mapping[str, Any], key: str) -> list[Any]:
    """value[key] if it is a list, else []."""
    found = value.get(key)
    return found if isinstance(found, list) else []


def key_of(record: Any, field: str) -> tuple[str, Any] | None:
    """A comparable id, or None for an invalid one."""
    value = dig(record, field)
    return (type(value).__name__, value) if isinstance(value, int | str) else None
