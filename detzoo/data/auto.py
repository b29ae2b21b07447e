"""data=auto: which reader a folder needs, and what that reader has to be given.

Evidence is counted, not guessed: COCO JSON files by the images that they name, VOC files and YOLO
text files themselves. Where one format has most of it, it is taken; where two have about as much,
or where the folder holds several data sets, all are listed and nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from detzoo.data.coco import Coco
from detzoo.data.dataset import SPLITS, Dataset
from detzoo.data.evidence import TITLES, find_data_set, format_of_file
from detzoo.data.folders import no_data_set
from detzoo.data.source import HOLDOUT, DataError, Source
from detzoo.data.voc import Voc
from detzoo.data.yolo_txt import YoloTxt

READERS: dict[str, type[Source]] = {"coco": Coco, "voc": Voc, "yolo_txt": YoloTxt}
FIT = {"coco": "are there", "voc": "have their annotation", "yolo_txt": "have a text file"}


@dataclass(frozen=True)
class Recognised:
    """The data set found in a root. settings: of the reader, including `root`; lines: to print."""

    format: str
    settings: Mapping[str, Any]
    lines: Sequence[str]

    @cached_property
    def source(self) -> Source:
        return _reader(self.format, self.settings)


class Auto(Source):
    """A data set whose format is found out at the first look; see `recognise`.

    images, annotations, first_pixel, options: those of the readers, where what is found is not what
    is meant.
    """

    format = "auto"
    several = True

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        images: str | Mapping[str, str] | None = None,
        annotations: str | Mapping[str, str] | None = None,
        first_pixel: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, name, **options)
        own = {"images": images, "annotations": annotations, "first_pixel": first_pixel}
        self.options = {**own, **options}

    @cached_property
    def recognised(self) -> Recognised:
        return recognise(self.root, **self.options)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.recognised.source.classes

    @property
    def splits(self) -> tuple[str, ...]:
        return self.recognised.source.splits

    def read(self, split: str) -> Dataset:
        return self.recognised.source.read(split)

    def search(self, split: str) -> Any | None:
        return self.recognised.source.find(split)

    def read_found(self, split: str, found: Any) -> Dataset:
        return self.recognised.source.read_found(split, found)

    def looked_for(self, split: str) -> str:
        return self.recognised.source.looked_for(split)


def recognise(root: str | Path, **options: Any) -> Recognised:
    """The format of a folder (or a data.yaml, or a COCO JSON), and the reader's settings.

    options: settings of the reader that are given already; None means not given. Missing splits are
    cut from train, by `holdout`. Raises DataError, with all candidates, where no format or more
    than one fits.
    """
    options = {key: value for key, value in options.items() if value not in (None, [], {})}
    root = Path(root).expanduser()
    format = format_of_file(root)
    if format is None:
        if wrong := no_data_set(root):
            raise DataError(wrong)
        root, found = find_data_set(root)
        format = found.format
    settings = {**options, "root": str(root)}
    if format == "voc" and "first_pixel" not in options:
        settings["first_pixel"] = _reader(format, settings).measured_first_pixel()
    notes = _complete_splits(_reader(format, settings), settings)
    source = _reader(format, settings)
    return Recognised(
        format, settings, [*_describe(source, format), *notes, *_alternatives(format)]
    )


def _reader(format: str, settings: Mapping[str, Any]) -> Source:
    """The reader of a format. Raises DataError for a setting that it does not have."""
    kind = READERS[format]
    known = {name for base in kind.__mro__ for name in signature(base.__init__).parameters}
    if unknown := sorted(set(settings) - known):
        raise DataError(
            f"{settings['root']} is {TITLES[format]}, and data={format} has no setting "
            + ", ".join(f"data.{name}" for name in unknown)
        )
    return kind(**settings)


def _complete_splits(source: Source, settings: dict[str, Any]) -> list[str]:
    """Add settings for missing splits; returns lines that describe them."""
    notes: list[str] = []
    if settings.get("folds") is not None:
        return notes
    splits = dict(settings.get("splits") or {})
    places = {split: source.find(split) for split in SPLITS}
    if places["train"] is None:
        there = ", ".join(split for split in SPLITS if places[split] is not None)
        raise DataError(
            f"{source.root}: {TITLES[source.format]}, but no train split"
            + (f" (there is {there})" if there else "")
            + f": {source.looked_for('train')}"
        )
    for split in ("test", "val"):
        if places[split] is None or splits.get(split):
            continue
        if places[split] == places["train"] or (split == "val" and places["val"] == places["test"]):
            same = "train" if places[split] == places["train"] else "test"
            splits[split] = "none"
            notes.append(f"  {split} is described as the same images as {same}: not used twice")
        elif source.format == "yolo_txt":  # whose folders of images alone make a split
            annotated, images = source.fit(split, places[split])
            if not annotated:
                splits[split] = "none"
                what = f"{images} images, none of them annotated" if images else "no images"
                notes.append(f"  {split} has {what}: not used")
    holdout = dict(settings.get("holdout") or {})
    for split in ("val", "test"):
        if places[split] is None and not source.holdout.get(split) and holdout.get(split) is None:
            holdout[split] = HOLDOUT[split]
    settings |= {key: v for key, v in (("splits", splits), ("holdout", holdout)) if v}
    return notes


def _describe(source: Source, format: str) -> list[str]:
    """The description of the result and how sure it is. Raises DataError without any image."""
    there = wanted = 0
    rows = []
    for split in SPLITS:
        found = source.find(split)
        if found is None:
            continue
        hits, of = source.fit(split, found)
        there, wanted = there + hits, wanted + of
        what = f"{hits} of {of} images {FIT[format]}" if hits < of else f"{of} images"
        rows.append(f"  {split:6}{_list_places(source.root, found)}: {what}")
    if wanted and not there:
        raise DataError(_describe_mismatch(source, format, wanted))
    sure = "sure" if there == wanted > 0 else "likely" if there >= 0.5 * wanted else "a guess"
    lines = [f"found: {TITLES[format]} in {source.root} ({sure})", *rows]
    for split, part in sorted(source.holdout.items(), reverse=True):
        lines.append(
            f"  {split:6}{part:.0%} of train, chosen by the images' bytes (data.holdout.{split})"
        )
    if source.folds is not None:
        lines.append(
            f"  all of it is cut into {source.folds} folds, and fold {source.fold} is tested"
        )
    if isinstance(source, Voc):
        edges = "numbered from 1" if source.first_pixel else "edges, counted from 0"
        lines.append(f"  boxes are {edges} (data.first_pixel={source.first_pixel})")
    return lines


def _describe_mismatch(source: Source, format: str, wanted: int) -> str:
    """The message for annotations and images that do not match."""
    problems = source.read_found("train", source.find("train")).problems
    first = f". First: {problems[0].where}: {problems[0].what}" if problems else ""
    return (
        f"{source.root}: {TITLES[format]} about {wanted} images, and of not one are both image and "
        f"annotation there{first}"
    )


def _alternatives(format: str) -> list[str]:
    others = " or ".join(f"data={name}" for name in READERS if name != format)
    return [f"  not so? {others}; data.splits.val=PLACE; detzoo check --help"]


def _list_places(root: Path, found: Any) -> str:
    """Paths relative to root, the first of them where there are several."""
    paths = [found] if isinstance(found, Path) else list(found)
    first = (
        paths[0].relative_to(root).as_posix() if paths[0].is_relative_to(root) else str(paths[0])
    )
    name = f"{first}/" if paths[0].is_dir() and first != "." else first
    name = "all of it" if name == "." else name
    return name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
