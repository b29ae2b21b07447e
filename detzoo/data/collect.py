"""Samples from the raw boxes of an annotation file.

A reader turns its format into `RawBox`es and passes them to a `Collector`, which is the one place
the check of every image and box: an unusable one is dropped or clipped and recorded as a Problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detzoo.box_forms import Form
from detzoo.data.dataset import Dataset, Problem, Sample, sample_of
from detzoo.data.folders import inside, located
from detzoo.data.form_check import suspicion
from detzoo.data.parsing import parse_flag, parse_number
from detzoo.data.skip import Skip
from detzoo.imagefile import MAX_MEGAPIXELS, UNREADABLE, Exif, Header, Size, header, needs_turning

OVERSHOOT = 0.01  # pixels outside the image that are rounding by the program that wrote the file
MOST_AREA = 1.1  # of an object, as a part of its box's; more means another image size
SLIVER = 1e-3  # pixels; a narrower box is a slip of the mouse, and vanishes when it is resized


class RawBox(NamedTuple):
    """A box as its file has it: xyxy in pixels, continuous; label None if its class is unknown."""

    box: tuple[float, float, float, float]
    label: int | None
    name: str
    where: str
    crowd: str | None = None  # the format's own word for it: "crowd" or "difficult"
    area: float | None = None
    written: tuple[float, ...] | None = None  # the box's four numbers, in the format's own form


@dataclass
class Collector:
    """Checks raw boxes, keeps what training can use, notes the rest.

    form: the meaning of a box's four numbers in this format. exif: how EXIF orientations are taken
    (see `detzoo.imagefile`). max_megapixels: larger images are left out. skip: the images that are
    left out by name.
    """

    root: Path
    form: Form | None = None
    exif: Exif = "auto"
    max_megapixels: float = MAX_MEGAPIXELS
    skip: Skip = field(default_factory=Skip)

    def __post_init__(self) -> None:
        self.samples: list[Sample] = []
        self.problems: list[Problem] = []
        self._left_out: list[str] = []  # names of images
        self._notes: dict[tuple[str, str, str], list[Any]] = {}  # -> [where first, how often]
        self._written: list[tuple[tuple[float, ...], Size, str]] = []  # -> numbers, image, where

    def error(self, kind: str, where: str, what: str, action: str) -> None:
        self.problems.append(Problem("error", kind, where, what, action))

    def warning(self, kind: str, where: str, what: str, action: str) -> None:
        self.problems.append(Problem("warning", kind, where, what, action))

    def note(self, kind: str, where: str, what: str, action: str) -> None:
        """A warning that is given once, with the first place and the number of them."""
        self._notes.setdefault((kind, what, action), [where, 0])[1] += 1

    def flag(self, value: Any, word: str, where: str) -> str | None:
        """`word` if the flag of that name is set; a value that is no flag is noted, and unset."""
        is_set = parse_flag(value)
        if is_set is None:
            what = f"{word} is {value!r:.40}, neither yes nor no"
            self.note("unknown word", where, what, f"taken as not {word}")
        return word if is_set else None

    def skips(self, path: Path) -> bool:
        """Whether `skip` names that image; it is then counted."""
        name = path.relative_to(self.root).as_posix()
        if not self.skip(name):
            return False
        self._left_out.append(name)
        return True

    def path(self, folder: Path, name: str, where: str, what: str = "image") -> Path | None:
        """The file's path; None and a noted error if it leaves the root or is not there.

        None as well, without an error, for an image that is skipped.
        """
        path = inside(self.root, folder, name)
        if path is None:
            self.error(
                "path leaves the root", where, f"{name!r} is not inside {self.root}", "not read"
            )
            return None
        if what == "image" and self.skips(path):
            return None
        found = located(path)
        if found is None or not found.is_file():
            self.error(f"missing {what}", where, f"{path} is not there", "image and boxes left out")
            return None
        return found

    def size(self, path: Path, where: str) -> Size | None:
        """(height, width) from the file's header, for formats that do not store it."""
        found = self._header(path, where)
        return found and (found.upright if needs_turning(found, None, self.exif) else found.size)

    def stated_size(self, height: Any, width: Any, path: Path, where: str) -> Size | None:
        """(height, width) from the annotation, or from the image where it has none.

        The setting for orientation decides which of the two comes first.
        """
        sides = parse_number(height), parse_number(width)
        if not all(side >= 1 and side.is_integer() for side in sides):  # a NaN is not >= 1
            text = f"height {height!r:.40}, width {width!r:.40}"
            self.warning("no size", where, text, "read from the image")
            return self.size(path, where)
        annotated = int(sides[0]), int(sides[1])
        if self.exif == "auto":
            return annotated
        found = self._header(path, where)
        if found is None or annotated not in (found.size, found.upright):
            return found and annotated
        return found.upright if needs_turning(found, annotated, self.exif) else found.size

    def _header(self, path: Path, where: str) -> Header | None:
        try:
            return header(path)
        except UNREADABLE as error:
            self.error("unreadable image", where, f"{path}: {error}", "image and boxes left out")
            return None

    def add(
        self, id: int, path: Path, size: Size, raw_boxes: Sequence[RawBox], group: str | None = None
    ) -> None:
        """Check one image's raw boxes and keep the sample; ids must be unique."""
        height, width = size
        if height * width > self.max_megapixels * 1e6:
            self.error(
                "image too large",
                raw_boxes[0].where if raw_boxes else path.relative_to(self.root).as_posix(),
                f"{path.name} has {width} x {height} pixels, {height * width / 1e6:.0f} million; "
                f"data.max_megapixels is {self.max_megapixels:g}"
                + (", Pillow's own limit" if self.max_megapixels == MAX_MEGAPIXELS else ""),
                "image and boxes left out; cut it into tiles, or raise data.max_megapixels",
            )
            return
        kept: dict[tuple[Any, ...], tuple[bool, float]] = {}  # box and label -> crowd and area
        for raw_box in raw_boxes:
            if raw_box.written is not None:
                self._written.append((raw_box.written, size, raw_box.where))
            box = self._box(raw_box, size)
            if box is None:
                continue
            if (box, raw_box.label) in kept:
                what = f"{_describe(raw_box)} came before"
                self.warning("duplicate box", raw_box.where, what, "dropped")
                continue
            if raw_box.crowd is not None:
                self.warning(
                    raw_box.crowd,
                    raw_box.where,
                    f"{raw_box.name} is marked {raw_box.crowd}",
                    "neither a positive nor a negative",
                )
            whole = (box[2] - box[0]) * (box[3] - box[1])
            given = raw_box.area if box == raw_box.box else None
            area = given if given is not None and 0 < given < math.inf else whole
            if area > MOST_AREA * whole + 1:
                what = "an area is larger than that of its box"
                self.note("area too large", raw_box.where, what, "the box's area")
                area = whole
            kept[box, raw_box.label] = raw_box.crowd is not None, area
        boxes, labels = [box for box, _ in kept], [label for _, label in kept]
        crowd, areas = [crowd for crowd, _ in kept.values()], [area for _, area in kept.values()]
        self.samples.append(
            sample_of(id, path, size, boxes, labels, crowd, areas, self.exif, group)
        )

    def _box(self, raw_box: RawBox, size: Size) -> tuple[float, float, float, float] | None:
        """The box to use, inside the image; None if there is nothing to use."""
        x1, y1, x2, y2 = raw_box.box
        height, width = size
        text = _describe(raw_box)
        if raw_box.label is None:
            self.error(
                "unknown class", raw_box.where, f"class {raw_box.name!r} is not known", "dropped"
            )
            return None
        if not all(map(math.isfinite, raw_box.box)):
            self.warning("non-finite box", raw_box.where, text, "dropped")
            return None
        if x2 < x1 or y2 < y1:
            self.warning("inverted box", raw_box.where, text, "dropped")
            return None
        box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        gone = box[2] <= box[0] or box[3] <= box[1] or _sliver(box)
        if min(x2 - x1, y2 - y1) < SLIVER or (box == raw_box.box and gone):
            what = f"{text}, {x2 - x1:.3g} x {y2 - y1:.3g} pixels"
            self.warning("zero-area box", raw_box.where, what, "dropped")
            return None
        if gone or max(-x1, -y1, x2 - width, y2 - height) > OVERSHOOT:
            self.warning(
                "box outside the image",
                raw_box.where,
                f"{text} in an image of {width} x {height} (width x height)",
                "dropped" if gone else "clipped to the image",
            )
        return None if gone else box

    def dataset(
        self, name: str, split: str, classes: tuple[str, ...], category_ids: tuple[int, ...]
    ) -> Dataset:
        """The collected samples and problems."""
        for (kind, what, action), (where, count) in self._notes.items():
            times = f" ({count} times)" if count > 1 else ""
            self.warning(kind, where, what + times, action)
        if self._left_out:
            names = ", ".join(self._left_out[:20])
            more = len(self._left_out) - 20
            self.warning(
                "skipped image",
                split,
                f"{names} and {more} more" if more > 0 else names,
                f"{len(self._left_out)} left out, as data.skip says",
            )
        if self._written and self.form is not None:
            written, sizes, places = zip(*self._written, strict=True)
            if found := suspicion(np.array(written), np.array(sizes), self.form):
                severity, what, action = found
                self.problems.append(Problem(severity, "form of boxes", places[0], what, action))
        return Dataset(
            name,
            split,
            self.root,
            tuple(self.samples),
            classes,
            category_ids,
            tuple(self.problems),
        )


def _describe(raw_box: RawBox) -> str:
    return "{} ({:g}, {:g}, {:g}, {:g})".format(raw_box.name, *raw_box.box)


def _sliver(box: tuple[float, float, float, float]) -> bool:
    """Whether a box has no width or height left in the precision that it is stored in."""
    x1, y1, x2, y2 = np.asarray(box, np.float32)
    return bool(min(x2 - x1, y2 - y1) < SLIVER)
