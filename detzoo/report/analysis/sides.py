"""The two sides of a comparison, read from run directories or files of COCO results."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detzoo.files import inside, read_json
from detzoo.metrics.matching import Problem, arrays
from detzoo.report.load.protocols import (
    ACCURACY,
    accuracy_fingerprint,
    format_value,
    name_detectors,
)
from detzoo.report.load.results import read_results
from detzoo.report.load.runs import Run, load
from detzoo.report.load.values import clean, number

SAME_IMAGES = ("dataset_hash", "split")  # without these in common there is nothing to compare


@dataclass(frozen=True)
class Side:
    """One detector: its runs, or None for a file; results (of a file its path until it is joined to
    the images) run by run. notes: how files were read."""

    name: str
    runs: tuple[Run | None, ...]
    results: tuple[list[dict[str, Any]] | Path, ...]
    truth: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def read_side(paths: Sequence[str | Path]) -> Side:
    """Read one detector's runs or result files. ValueError names what cannot be read."""
    runs, results, truth = [], [], None
    for path in map(Path, paths):
        if path.is_dir():
            runs.append(load(path))
            results.append(_read(path, list, "predictions.json"))
            truth = truth or _truth(path)
        else:
            runs.append(None)
            results.append(path)
    if not runs:
        raise ValueError("no run was named")
    called = name_detectors([run for run in runs if run])
    every = list(dict.fromkeys(called.values())) or [Path(paths[0]).stem]
    if len(every) > 1:
        raise ValueError(
            f"{', '.join(map(str, paths))} are several detectors ({', '.join(every)}); a side is "
            "one detector, or one with several seeds"
        )
    return Side(every[0], tuple(runs), tuple(results), truth)


def join(side: Side, truth: dict[str, Any]) -> Side:
    """The side with its files read, on the images of `truth`. ValueError names the file."""
    results, notes = [], []
    for of in side.results:
        if isinstance(of, Path):
            try:
                read = read_results(_read(of, object), truth)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{side.name}: {clean(error, 600)}") from None
            notes += [f"{side.name}: {note}" for note in read.notes]
            of = read.found
        results.append(of)
    return replace(side, results=tuple(results), notes=tuple(dict.fromkeys(notes)))


def _read(path: Path, kind: type, name: str = "") -> Any:
    """The content of a file. name: a file in the run directory `path`, and nowhere else."""
    try:
        path = inside(path, name) if name else path
        value = read_json(path)
    except (OSError, ValueError) as error:
        hint = "; detzoo evaluate writes it" if isinstance(error, FileNotFoundError) else ""
        raise ValueError(f"{path} cannot be read ({clean(error, 300)}){hint}") from None
    if not isinstance(value, kind):
        what = "COCO results, a list" if kind is list else "ground truth, a mapping"
        raise ValueError(f"{path} holds a {type(value).__name__}, not {what}")
    return value


def _truth(run: Path) -> dict[str, Any]:
    """COCO ground truth with valid rows. ValueError names file and row."""
    truth, path = _read(run, dict, "dataset.json"), run / "dataset.json"
    for part in ("images", "annotations", "categories"):
        rows = truth.get(part)
        if not isinstance(rows, list):
            raise ValueError(f"{path} has no list of {part}; run detzoo evaluate again")
        for at, row in enumerate(rows):
            if not isinstance(row, dict) or type(row.get("id")) is not int:
                raise ValueError(
                    f"{path}: {part}[{at}] is {clean(repr(row), 80)}, without an id that is a "
                    "whole number; run detzoo evaluate again"
                )
    return truth


def common_truth(sides: Sequence[Side]) -> tuple[dict[str, Any], tuple[str, ...], int]:
    """The ground truth of all, what differs in the protocol all the same, max_dets.

    ValueError if the runs were not scored on the same images.
    """
    truth = next((side.truth for side in sides if side.truth is not None), None)
    if truth is None:
        raise ValueError("no ground truth: result files need a run directory on the other side")
    runs = [run for side in sides for run in side.runs if run is not None]
    prints = [accuracy_fingerprint(run) for run in runs]
    differing = {
        key: list(dict.fromkeys(format_value(found[key]) for found in prints))
        for key in ACCURACY
        if len({json.dumps(found[key], sort_keys=True, default=str) for found in prints}) > 1
    }
    listed = [f"{ACCURACY[key]}: {' | '.join(values)}" for key, values in differing.items()]
    ids = [
        {image.get("id") for image in side.truth["images"]}
        for side in sides
        if side.truth is not None and isinstance(side.truth.get("images"), list)
    ]
    if any(key in differing for key in SAME_IMAGES) or any(other != ids[0] for other in ids):
        where = "; ".join(listed) or "image ids in dataset.json"
        raise ValueError(f"the runs were not scored on the same images. They differ in {where}")
    limits = [number(run.metrics, "max_dets") for run in runs]
    known = [int(limit) for limit in limits if not math.isnan(limit)]
    return truth, tuple(listed), max(known, default=100)


def problem_of(
    truth: dict[str, Any], results: list[dict[str, Any]], max_dets: int, name: str
) -> Problem:
    try:
        return arrays(truth, results, max_dets=max_dets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: {clean(error, 300)}") from None
