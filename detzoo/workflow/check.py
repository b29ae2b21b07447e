"""Checks a data set: its problems, anchors that fit it, and contact sheets."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from detzoo.config import build
from detzoo.data import CheckResult, Dataset, Letterbox, Problem
from detzoo.data import check as check_source
from detzoo.files import check_writable, write_json
from detzoo.ops.anchors import cluster
from detzoo.text import escaped
from detzoo.workflow.datasets import resolved
from detzoo.workflow.sheets import write_sheets
from detzoo.workflow.twins import with_twins
from detzoo.workflow.verb import Result, takes_settings

PRIORS = 9  # of YOLOv3, three a map


@dataclass(frozen=True, repr=False)
class DataCheck(Result):
    """What was found in a data set.

    found: statistics and problems of its splits. anchors: [[width, height], ...] for YOLOv3, None
    where the training split has errors or was not read. size: the pixels that they are for, None
    for the images' own. sheets: the page with the contact sheets, None if not requested. notes:
    what could not be checked. licences: split -> those named in the data set's own files, with the
    number of images of each.
    """

    found: CheckResult
    anchors: Sequence[Sequence[int]] | None = None
    size: int | None = None
    sheets: Path | None = None
    notes: Sequence[str] = ()
    licences: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each problem: severity, kind, where, what, and the action taken."""
        columns = list(Problem.__dataclass_fields__)
        return pd.DataFrame([asdict(p) for p in self.found.problems], columns=columns)

    @property
    def exit_code(self) -> int:
        """1 where the data set has errors, else 0."""
        return int(bool(self.found.errors))

    def text(self) -> str:
        lines = [self.found.table(), *(f"\n{note}" for note in self.notes)]
        if self.anchors is not None:
            at = f"inside {self.size} px" if self.size else "in the images' own pixels"
            lines.append(f"\nYOLOv3's anchors by k-means, width and height {at}:")
            lines.append(shell_lines("anchors=" + str(self.anchors).replace(" ", "")))
        if any(self.licences.values()):
            lines.append("\nLicences, as the data set's own files name them:")
            lines += [
                f"  {split}: {escaped(name)}: {count:,} images"
                for split, of in self.licences.items()
                for name, count in of.items()
            ]
        if self.sheets:
            lines.append(f"\nTo look at: {self.sheets}")
        return "\n".join(lines)

    def html(self) -> str:
        return f"<pre>{html.escape(escaped(self.text(), lines=True))}</pre>"


@takes_settings
def check(settings: Mapping[str, Any]) -> DataCheck:
    """Check a data set; writes settings["json"] and contact sheets into settings["out"], if given.

    settings: of `detzoo check`: data, splits, size, json, out, and for the sheets resize, augment
    and seed. Raises ValueError for a data set that cannot be read at all.
    """
    if settings["json"]:
        check_writable(settings["json"])
    source = build(resolved(settings["data"]), "data")
    found = check_source(source, tuple(settings["splits"]))
    found, twins, note = with_twins(found, source)
    record, sheets, priors = found.json(), None, None
    licences = getattr(source, "licences", {})
    if any(licences.values()):
        record["licences"] = licences
    if not found.errors and "train" in settings["splits"]:
        priors = anchors(source.read("train"), settings["size"])
        record["anchors"] = priors
    if settings["json"]:
        write_json(settings["json"], record)
    if settings["out"]:
        sheets = write_sheets(
            source,
            found,
            settings["splits"],
            Path(settings["out"]).expanduser(),
            resize=build(settings["resize"], "resize"),
            augment=build(settings["augment"], "augment"),
            seed=settings["seed"],
            twins=twins,
        )
    return DataCheck(found, priors, settings["size"], sheets, (note,) if note else (), licences)


def shell_lines(setting: str, width: int = 79) -> str:
    r"""A setting as a shell takes it from several lines: each but the last ends in a backslash."""
    lines = [""]
    for part in re.sub(r"(\],)", r"\1\n", setting).split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\\\n".join(lines)


def anchors(dataset: Dataset, size: int | None) -> list[list[int]]:
    """[[width, height], ...] in whole pixels: k-means of the boxes that are no crowd.

    size: the square that every image is fitted into first, as resize=letterbox does; None: none.
    Fewer boxes give fewer anchors.
    """
    sides = [torch.zeros(0, 2)]
    for sample in dataset.samples:
        height, width = sample.size
        boxes = sample.boxes[~sample.crowd]
        scale = Letterbox(size).size(height, width)[0] / height if size else 1.0
        sides.append((boxes[:, 2:] - boxes[:, :2]) * scale)
    sides = torch.cat(sides)
    found = cluster(sides, min(PRIORS, len(sides))) if len(sides) else sides
    return [[max(1, round(side)) for side in pair] for pair in found.tolist()]
