"""The readers' shared code: the places of splits, with seeded holdouts and folds.

No content of a data set makes a reader crash: unusable items are dropped or clipped and recorded as
a Problem (see `collect`). Only what leaves nothing to read raises an error.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detzoo.box_forms import Form
from detzoo.data.collect import Collector
from detzoo.data.dataset import SPLITS, DataError, Dataset, Sample
from detzoo.data.folders import Tree, below, inside, located, no_data_set
from detzoo.data.groups import Groups
from detzoo.data.kinds import allowed
from detzoo.data.parsing import parse_number
from detzoo.data.paste import Pasted
from detzoo.data.skip import Skip
from detzoo.data.splits import split_folds, split_holdout, take_fraction
from detzoo.imagefile import EXIF, MAX_MEGAPIXELS, Exif

FOLDERS = {  # what people call a split's folder or file
    "train": ("train", "train2017"),
    "val": ("val", "valid", "validation", "val2017"),
    "test": ("test",),
}
HOLDOUT = {"val": 0.1, "test": 0.2}  # parts of train for splits that are not there


class Source(abc.ABC):
    """A data set on disk, split by split.

    root: its folder; some formats also take the file that describes it. name: the format's by
    default. splits: the file or folder that defines a split, relative to root; without it every
    format has its usual places; "none" for an existing split that is not to be used, which is then
    cut from train. classes: names in the order of the labels; without it those of the format.
    holdout: fractions of train to split off, e.g. {"val": 0.1, "test": 0.2}, for data sets that
    have no such split. The choice depends on `holdout_seed` and on the images' bytes, not on their
    names or order; copies of an image stay on one side, and so does a group. folds: for small data
    sets, cut all images, whatever their split, into this number of equal parts by the same rule;
    part `fold` is the test split, the next one val, the rest train. group: which images belong
    together (see `Groups`). fraction: of the training images, the part that is used, chosen by
    `holdout_seed` in whole groups; a smaller fraction is a subset of a larger one. allow: kinds of
    problems that `check` accepts, e.g. ["train/test overlap"]; they remain in its table, as
    warnings. skip: images to leave out, by name or pattern (see `Skip`). exif: how EXIF
    orientations are taken, "auto", "upright" or "stored" (see `detzoo.imagefile`). max_megapixels:
    larger images are left out, as an error.
    """

    format: str
    form: Form | None = None  # of a box's four numbers
    several = False  # whether `splits` may name several places for one split
    marked: str | None = None  # the class beside whose objects a mark is planted, see `mark`

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        *,
        splits: Mapping[str, str | Sequence[str] | None] | None = None,
        classes: Sequence[str] | None = None,
        holdout: Mapping[str, float] | None = None,
        holdout_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
        group: str | None = None,
        fraction: float = 1.0,
        allow: Sequence[str] = (),
        skip: Sequence[str] = (),
        exif: Exif = "auto",
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self.name = name or self.format
        self.allow = allowed(allow)
        self.skip = Skip([skip] if isinstance(skip, str) else skip)
        if exif not in EXIF:
            raise ValueError(f"data.exif is {exif!r}; it is one of {', '.join(EXIF)}")
        if isinstance(max_megapixels, bool) or not parse_number(max_megapixels) > 0:
            raise ValueError(f"data.max_megapixels is {max_megapixels!r}; give a number above 0")
        self.exif, self.max_megapixels = exif, parse_number(max_megapixels)
        self.root = Path(root).expanduser()
        self.tree = Tree(self.root)
        given = {split: place for split, place in (splits or {}).items() if place}
        if unknown := set(given) - set(SPLITS):
            raise ValueError(f"splits has {', '.join(sorted(unknown))}; it has train, val and test")
        self.unused = {split for split, place in given.items() if place == "none"}
        self.places = {split: place for split, place in given.items() if split not in self.unused}
        self.holdout = {split: float(f) for split, f in (holdout or {}).items() if f}
        if folds is None:
            given = {split for split, part in (holdout or {}).items() if part is not None}
            self.holdout |= {split: HOLDOUT[split] for split in self.unused - given}
        self.holdout_seed = holdout_seed
        self.folds, self.fold = folds, fold
        self.groups = None if group is None else Groups(group, self.root)
        if isinstance(fraction, bool) or not 0 < parse_number(fraction) <= 1:
            raise ValueError(f"data.fraction is {fraction!r}; give a number above 0 and up to 1")
        self.fraction = parse_number(fraction)
        classes = [classes] if isinstance(classes, str) else classes
        self._given_classes = tuple(classes) if classes else None
        self._read: dict[str, Dataset] = {}
        if set(self.holdout) - {"val", "test"} or not 0 <= sum(self.holdout.values()) < 1:
            raise ValueError(
                f"holdout is {self.holdout}; give fractions for val or test whose sum is below 1"
            )
        if fold != 0 if folds is None else folds < 3 or not 0 <= fold < folds:
            raise ValueError(
                f"folds is {folds}, fold is {fold}; give at least 3 folds (test, val and train), "
                "and a fold from 0 on"
            )
        if folds is not None and self.holdout:
            raise ValueError("folds split all images again; unset holdout")
        if self._given_classes and len(set(self._given_classes)) < len(self._given_classes):
            raise ValueError(f"classes names a class twice: {', '.join(self._given_classes)}")

    def collector(self) -> Collector:
        """The check of a split's images and boxes."""
        return Collector(self.root, self.form, self.exif, self.max_megapixels, self.skip)

    @property
    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The class names; label i is classes[i] in every split."""

    @abc.abstractmethod
    def search(self, split: str) -> Any | None:
        """What `read_found` needs to read the split from its usual places, None if it has none."""

    @abc.abstractmethod
    def read_found(self, split: str, found: Any) -> Dataset:
        """Read a split that is there."""

    def mark(self, sample: Sample, index: int) -> Tensor | None:
        """(2, 4) xyxy: the mark beside the object, and the place opposite; None without a mark."""
        return None

    def paste(self, sample: Sample, pixels: np.ndarray, seed: int) -> Pasted | None:
        """The sample's (H, W, 3) uint8 image with one object more, of whose pixels all is known.

        None where nothing is free. Raises ValueError for a data set that is not drawn.
        """
        raise ValueError(
            f"an object is pasted into drawn images alone (data=shapes), and {self.name} holds "
            "photographs: nobody knows what an object of its classes looks like"
        )

    def fit(self, split: str, found: Any) -> tuple[int, int]:
        """How many images of a split that was found are annotated, or there, and of how many; for
        `auto`, which reads no image."""
        dataset = self.read_found(split, found)
        return len(dataset), len(dataset)

    @abc.abstractmethod
    def looked_for(self, split: str) -> str:
        """Where `search` looked, and which option names another place; for the error message."""

    def find(self, split: str) -> Any | None:
        """What `read_found` needs to read the split that is on disk, None if there is none.

        Where val is "none" and there is no test split, what is published as val is the test split.
        """
        if wrong := no_data_set(self.root):
            raise DataError(wrong)
        if split in self.unused:
            return None
        if split in self.places:
            paths = self._named(split)
            if len(paths) > 1 and not self.several:
                raise DataError(f"data.splits.{split} names {len(paths)} places; it takes one")
            return paths if self.several else paths[0]
        found = self.search(split)
        if (
            found is None
            and split == "test"
            and "val" in self.unused
            and not self.holdout.get(split)
        ):
            return self.search("val")
        return found

    def _named(self, split: str) -> list[Path]:
        """The places that `splits` names for a split."""
        places = self.places[split]
        paths = []
        for place in [places] if isinstance(places, str) else places:
            path = located(self.root / place)
            if path is None:
                raise DataError(
                    f"{self.root / place}: no such file or folder (data.splits.{split})"
                )
            if path.is_dir() and inside(self.root, self.root, str(place)) is None:
                raise DataError(
                    f"{path} lies outside of {self.root} (data.splits.{split}); give a data.root "
                    "that holds both"
                )
            paths.append(path)
        return paths

    def place(self, path: Path) -> str:
        """A path as problems name it: relative to root if it is inside."""
        return (
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        )

    def folder(self, chosen: str | Mapping[str, str] | None, split: str, key: str) -> Path | None:
        """The folder that a setting names, one for all splits or one per split; None for none.

        Raises DataError where it is not there.
        """
        name = chosen if isinstance(chosen, str) else (chosen or {}).get(split)
        if not name:
            return None
        folder = below(self.root, self.root, name)
        if folder is None or not folder.is_dir():
            raise DataError(f"{self.root / name}: no such folder inside data.root (data.{key})")
        return folder

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
            if wrong := no_data_set(self.root):
                raise DataError(wrong)
            if self.folds is not None:
                found = self._fold()
            elif self.holdout and (split == "train" or split in self.holdout):
                found = self._split_off()
            else:
                found = {split: self._whole(split)}
            if self.fraction < 1 and "train" in found:
                found["train"] = take_fraction(found["train"], self.fraction, self.holdout_seed)
            self._read.update(found)
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
        try:
            return dataset if self.groups is None else self.groups.assign(dataset)
        except ValueError as error:
            raise DataError(f"{self.name}: {error}") from None

    def _split_off(self) -> dict[str, Dataset]:
        """Train, and the splits of `holdout` from its images."""
        for split in self.holdout:
            if self.find(split) is not None:
                raise DataError(
                    f"{self.name} has a {split} split of its own; unset data.holdout.{split}"
                )
        return split_holdout(self._whole("train"), self.holdout, self.holdout_seed)

    def _fold(self) -> dict[str, Dataset]:
        """All images as one of the folds: part `fold` is test, the next val, the rest train."""
        found = [self._whole(split) for split in SPLITS if self.find(split) is not None]
        if not found:
            raise DataError(f"{self.name} has no split: {self.looked_for('train')}")
        return split_folds(found, self.folds, self.fold, self.holdout_seed)
