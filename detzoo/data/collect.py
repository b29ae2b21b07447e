"""Samples out of what an annotation file claims.

A reader turns its format into `Claim`s and hands them to a `Collector`, which is the one place
where an image or a box is judged: what cannot be used is dropped or clipped and noted as a Problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from detzoo.data.dataset import Dataset, Problem, Sample, sample_of
from detzoo.data.folders import inside, located

OVERSHOOT = 0.01  # pixels outside the image that are the rounding of whoever wrote the file


class Claim(NamedTuple):
    """A box as its file has it: xyxy in pixels, continuous; label None if its class is unknown."""

    box: tuple[float, float, float, float]
    label: int | None
    name: str
    where: str
    crowd: str | None = None  # the format's own word for it: "crowd" or "difficult"
    area: float | None = None


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
            return None
        found = located(path)
        if found is None or not found.is_file():
            self.error(f"missing {what}", where, f"{path} is not there", "image and boxes left out")
            return None
        return found

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


def number(value: Any) -> float:
    """A float of a number or its text; NaN of anything else, which `Collector` then reports."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
