"""What the readers share: splits (with seeded holdouts), and samples out of what a file claims.

A reader turns its format into `Claim`s and hands them to a `Collector`, which is the one place
where an image or a box is judged. Nothing in a data set makes a reader crash: what cannot be used
is dropped or clipped and noted as a Problem. Only a file or folder without which there is nothing
to read raises an error.
"""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from detzoo.data.dataset import SPLITS, Dataset, Problem, Sample, sample_of
from detzoo.data.pieces import cut, ranked

FOLDERS = {  # what people call a split's folder or file
    "train": ("train", "train2017"),
    "val": ("val", "valid", "validation", "val2017"),
    "test": ("test",),
}
OVERSHOOT = 0.01  # pixels outside the image that are the rounding of whoever wrote the file


class DataError(ValueError):
    """There is nothing to read: says what was looked for, where, and how to name it."""


class Claim(NamedTuple):
    """A box as its file has it: xyxy in pixels, continuous; label None if its class is unknown."""

    box: tuple[float, float, float, float]
    label: int | None
    name: str
    where: str
    crowd: str | None = None  # the format's own word for it: "crowd" or "difficult"
    area: float | None = None


class Source(abc.ABC):
    """A data set on disk, split by split.

    name: the format's by default. splits: the file or folder that tells what is in a split,
    relative to root; without it every format has its usual places. classes: names in the order of
    the labels; without it as the format tells them. holdout: fractions of train to split off, e.g. {"val": 0.1, "test": 0.2}, for data sets that
    have no such split. Who goes where depends on `holdout_seed` and on the images' bytes, not on
    their names or order, and copies of an image stay on one side. folds: for small data sets, cut
    all images, whatever their split, into so many equal parts by the same rule; part `fold` is the
    test split, the next one val, the rest train. allow: kinds of problems that `check` lets pass,
    e.g. ["train/test overlap"]; they stay in its table, as warnings.
    """

    format: str

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        splits: Mapping[str, str | None] | None = None,
        classes: Sequence[str] | None = None,
        holdout: Mapping[str, float] | None = None,
        holdout_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
        allow: Sequence[str] = (),
    ) -> None:
        self.name = name or self.format
        self.allow = frozenset(allow)
        self.root = Path(root).expanduser()
        self.places = {split: place for split, place in (splits or {}).items() if place}
        self.holdout = {split: float(f) for split, f in (holdout or {}).items() if f}
        self.holdout_seed = holdout_seed
        self.folds, self.fold = folds, fold
        self._given_classes = tuple(classes) if classes else None
        self._read: dict[str, Dataset] = {}
        if set(self.holdout) - {"val", "test"} or not 0 <= sum(self.holdout.values()) < 1:
            raise ValueError(
                f"holdout is {self.holdout}; give fractions for val or test whose sum is below 1"
            )
        if folds is not None and (folds < 3 or not 0 <= fold < folds):
            raise ValueError(
                f"folds is {folds}, fold is {fold}; give at least 3 folds (test, val and train), "
                "and a fold from 0 on"
            )
        if folds is not None and self.holdout:
            raise ValueError("folds cut all images anew; unset holdout")
        if self._given_classes and len(set(self._given_classes)) < len(self._given_classes):
            raise ValueError(f"classes names a class twice: {', '.join(self._given_classes)}")

    @property
    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The class names; label i is classes[i] in every split."""

    @abc.abstractmethod
    def find(self, split: str) -> Any | None:
        """What `read_found` needs to read the split as it lies on disk, None if there is none."""

    @abc.abstractmethod
    def read_found(self, split: str, found: Any) -> Dataset:
        """Read a split that is there."""

    @abc.abstractmethod
    def looked_for(self, split: str) -> str:
        """Where `find` looked, and which option names another place; for the error message."""

    def named(self, split: str) -> Path | None:
        """The place that `splits` names for a split, None if it names none."""
        if split not in self.places:
            return None
        path = self.root / self.places[split]
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (data.splits.{split})")
        return path

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that can be read."""
        if self.folds is not None:
            return SPLITS
        return tuple(s for s in SPLITS if s in self.holdout or self.find(s) is not None)

    def read(self, split: str) -> Dataset:
        """Read one split; a second call gives the same object. DataError if there is none."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; it is one of {', '.join(SPLITS)}")
        if split not in self._read:
            if not self.root.is_dir():
                raise DataError(f"{self.root}: no such folder; data.root=DIR names the data set")
            if self.folds is not None:
                self._read.update(self._fold())
            elif self.holdout and (split == "train" or split in self.holdout):
                self._read.update(self._split_off())
            else:
                self._read[split] = self._whole(split)
        return self._read[split]

    def _whole(self, split: str) -> Dataset:
        found = self.find(split)
        if found is None:
            help = self.looked_for(split)
            if split != "train":
                help += f"; or split it off the training images: data.holdout.{split}=0.2"
            raise DataError(f"{self.name} has no {split} split: {help}")
        dataset = self.read_found(split, found)
        if not dataset.samples:
            problems = "; ".join(f"{p.where}: {p.what}" for p in dataset.problems[:3])
            raise DataError(
                f"{self.name}: the {split} split has no images that can be used ({found})"
                + (f". First problems: {problems}" if problems else "")
            )
        return dataset

    def _split_off(self) -> dict[str, Dataset]:
        """The training images in pieces: train, and what `holdout` asks for."""
        for split in self.holdout:
            if self.find(split) is not None:
                raise DataError(
                    f"{self.name} has a {split} split of its own; unset data.holdout.{split}"
                )
        whole = self._whole("train")
        ranks = ranked(whole, self.holdout_seed)
        ordered = sorted(set(ranks))
        pieces, start = {}, 0
        for split, fraction in self.holdout.items():
            stop = start + max(1, round(fraction * len(ordered)))
            pieces[split] = ordered[start:stop]
            start = stop
        pieces["train"] = ordered[start:]
        if not pieces["train"]:
            raise DataError(
                f"{self.name}: {len(ordered)} different images are too few for {self.holdout}"
            )
        return cut(whole, ranks, pieces)

    def _fold(self) -> dict[str, Dataset]:
        """All images, numbered anew: part `fold` for test, the next for val, the rest for train."""
        found = [self._whole(split) for split in SPLITS if self.find(split) is not None]
        if not found:
            raise DataError(f"{self.name} has no split: {self.looked_for('train')}")
        if len({(d.classes, d.category_ids) for d in found}) > 1:
            raise DataError(f"{self.name}: its splits have different classes, so none can be cut")
        samples = [sample for dataset in found for sample in dataset.samples]
        whole = replace(
            found[0],
            samples=tuple(replace(sample, id=id) for id, sample in enumerate(samples, 1)),
            problems=tuple(problem for dataset in found for problem in dataset.problems),
        )
        ranks = ranked(whole, self.holdout_seed)
        ordered = sorted(set(ranks))
        if len(ordered) < self.folds:
            raise DataError(
                f"{self.name}: {len(ordered)} different images are too few for {self.folds} folds"
            )
        edges = [part * len(ordered) // self.folds for part in range(self.folds + 1)]
        parts = [ordered[low:high] for low, high in pairwise(edges)]
        pieces = {
            "test": parts.pop(self.fold),
            "val": parts.pop(self.fold % len(parts)),  # what came after it, or the first
            "train": [rank for part in parts for rank in part],
        }
        return cut(whole, ranks, pieces)


@dataclass
class Collector:
    """Judges claims, keeps what training can use, notes the rest."""

    root: Path

    def __post_init__(self) -> None:
        self.samples: list[Sample] = []
        self.problems: list[Problem] = []

    def error(self, kind: str, where: str, what: str, action: str) -> None:
        self.problems.append(Problem("error", kind, where, what, action))

    def warning(self, kind: str, where: str, what: str, action: str) -> None:
        self.problems.append(Problem("warning", kind, where, what, action))

    def path(self, folder: Path, name: str, where: str, what: str = "image") -> Path | None:
        """The file's path; None and a noted error if it leaves the root or is not there."""
        path = inside(self.root, folder, name)
        if path is None:
            self.error(
                "path leaves the root", where, f"{name!r} is not inside {self.root}", "not read"
            )
        elif not path.is_file():
            self.error(f"missing {what}", where, f"{path} is not there", "image and boxes left out")
            return None
        return path

    def told_size(self, height: Any, width: Any, path: Path, where: str) -> tuple[int, int] | None:
        """(height, width) as the annotation tells them, or from the image where it does not."""
        size = number(height), number(width)
        if all(side >= 1 and side.is_integer() for side in size):  # a NaN is not >= 1
            return int(size[0]), int(size[1])
        told = f"height {height!r}, width {width!r}"
        self.warning("no size", where, told, "read from the image")
        return self.size(path, where)

    def dataset(
        self, name: str, split: str, classes: tuple[str, ...], category_ids: tuple[int, ...]
    ) -> Dataset:
        """What was collected."""
        return Dataset(
            name,
            split,
            self.root,
            tuple(self.samples),
            classes,
            category_ids,
            tuple(self.problems),
        )

    def size(self, path: Path, where: str) -> tuple[int, int] | None:
        """(height, width) from the file's header, for formats that do not tell it."""
        try:
            with Image.open(path) as image:
                return image.height, image.width
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            self.error("unreadable image", where, f"{path}: {error}", "image and boxes left out")
            return None

    def add(self, id: int, path: Path, size: tuple[int, int], claims: Sequence[Claim]) -> None:
        """Judge one image's claims and keep the sample; no two may have one id."""
        boxes, labels, crowd, areas = [], [], [], []
        for claim in claims:
            box = self._box(claim, size)
            if box is None:
                continue
            if claim.crowd is not None:
                self.warning(
                    claim.crowd,
                    claim.where,
                    f"{claim.name} is marked {claim.crowd}",
                    "neither a positive nor a negative",
                )
            whole = (box[2] - box[0]) * (box[3] - box[1])
            told = claim.area if box == claim.box else None
            boxes.append(box)
            labels.append(claim.label)
            crowd.append(claim.crowd is not None)
            areas.append(told if told is not None and 0 < told < math.inf else whole)
        self.samples.append(sample_of(id, path, size, boxes, labels, crowd, areas))

    def _box(self, claim: Claim, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
        """The box to use, inside the image; None if there is nothing to use."""
        x1, y1, x2, y2 = claim.box
        height, width = size
        told = f"{claim.name} ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if claim.label is None:
            self.error(
                "unknown class", claim.where, f"class {claim.name!r} is not known", "dropped"
            )
            return None
        if not all(map(math.isfinite, claim.box)):
            self.warning("non-finite box", claim.where, told, "dropped")
            return None
        if x2 < x1 or y2 < y1:
            self.warning("inverted box", claim.where, told, "dropped")
            return None
        if x2 == x1 or y2 == y1:
            self.warning("zero-area box", claim.where, told, "dropped")
            return None
        if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
            return claim.box
        box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        gone = box[2] <= box[0] or box[3] <= box[1]
        if gone or max(-x1, -y1, x2 - width, y2 - height) > OVERSHOOT:
            self.warning(
                "box outside the image",
                claim.where,
                f"{told} in an image of {width} x {height} (width x height)",
                "dropped" if gone else "clipped to the image",
            )
        return None if gone else box


def inside(root: Path, folder: Path, name: str) -> Path | None:
    """folder/name if it lies inside root by its spelling, else None.

    Symbolic links are not followed: who put one into the root meant it.
    """
    base = Path(os.path.abspath(root))
    path = Path(os.path.abspath(folder / name.replace("\\", "/")))
    return root / path.relative_to(base) if path.is_relative_to(base) else None


def number(value: Any) -> float:
    """A float of a number or its text; NaN of anything else, which `Collector` then reports."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
