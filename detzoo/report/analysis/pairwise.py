"""Two detectors on the same images: the difference in AP, how sure it is, and where it comes from.

Every difference is the first's number less the second's, so that above 0 the first is better, but
for the kinds of error: there it is what the first loses more than the second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detzoo.files import read_json
from detzoo.metrics import paired
from detzoo.metrics.bootstrap import (
    Matches,
    match_problem,
    means,
    over_classes,
    precision_and_recall,
)
from detzoo.metrics.errors import KINDS, SUMS, fates, mended
from detzoo.metrics.matching import Problem, arrays
from detzoo.metrics.samples import FEWEST, Samples, draw_sets, method, units_of
from detzoo.report.analysis.verdict import counted
from detzoo.report.load.protocols import ACCURACY, accuracy_fingerprint, names, show
from detzoo.report.load.results import read_results
from detzoo.report.load.runs import Run, clean, load, number, shorten

SAME_IMAGES = ("dataset_hash", "split")  # without these in common there is nothing to compare


@dataclass(frozen=True)
class Row:
    """One number of both and its difference with the 95% interval; None is n/a."""

    name: str
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Swing:
    """How much of the difference in AP comes from one image (see `paired.swings`)."""

    image_id: int
    file_name: str
    difference: float


@dataclass(frozen=True)
class Versus:
    """first, second: names; seeds: how many runs each. p: two-sided, of the paired bootstrap that
    `method` tells; p_flip: of the sign-flip test, None where the numbers of seeds differ. ap: AP,
    AP50, AP75; sizes, classes: AP; errors: dAP of every kind. swings: the largest first. notes:
    what else of the protocol differs. units: the images, or groups of images, that have a box to
    find. groups: how many there are, None where images stand alone.
    results: how files of results were read.
    """

    first: str
    second: str
    seeds: tuple[int, int]
    images: int
    method: str
    p: float | None
    p_flip: float | None
    ap: tuple[Row, ...]
    sizes: tuple[Row, ...]
    classes: tuple[Row, ...]
    errors: tuple[Row, ...]
    swings: tuple[Swing, ...]
    notes: tuple[str, ...]
    units: int | None = None
    results: tuple[str, ...] = ()
    groups: int | None = None

    @property
    def verdict(self) -> str:
        """One sentence, no surer than the test."""
        row, on = self.ap[0], f"on {counted(self.images)}"
        if self.groups is not None:
            on += f" in {self.groups} group{'s' * (self.groups != 1)}"
        if row.difference is None or self.p is None:
            return f"No AP can be compared {on}: there is no ground truth to score against."
        told = f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}], p = {self.p:.2g}"
        if self.p >= 0.05:
            few = self.units is not None and self.units < FEWEST
            units = "images" if self.groups is None else "groups of images"
            why = f" Fewer than {FEWEST} {units} with boxes tell nothing apart." if few else ""
            return f"{self.first} and {self.second} cannot be told apart {on}: AP {told}.{why}"
        better, worse = (self.first, self.second)[:: 1 if row.difference > 0 else -1]
        return f"{better} is better than {worse} {on}: AP {told}."


@dataclass(frozen=True)
class _Side:
    """One detector: its runs, or None for a file; results (of a file its path until it is joined to
    the images) run by run. notes: how files were read."""

    name: str
    runs: tuple[Run | None, ...]
    results: tuple[list[dict[str, Any]] | Path, ...]
    truth: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def versus(
    first: Sequence[str | Path],
    second: Sequence[str | Path],
    *,
    n: int = 1000,
    flips: int = 1000,
    swings: int = 10,
    seed: int = 0,
) -> Versus:
    """Compare two detectors, each given by its run directories (its seeds) or by COCO result JSONs.

    n: resamples; flips: of the sign-flip test, 0 for none; swings: images to name. Ground truth is
    that of a run; result files alone have none. Raises ValueError for what cannot be read, and with
    the fields that differ for runs that were not scored on the same images.
    """
    sides = (_side(first), _side(second))
    truth, notes, max_dets = _common(sides)
    sides = tuple(_join(side, truth) for side in sides)
    problems = [
        [_problem(truth, results, max_dets, side.name) for results in side.results]
        for side in sides
    ]
    images, group = len(problems[0][0].image_ids), problems[0][0].group
    sets = draw_sets(images, n, seed, group)
    tables: list[list[Matches]] = []
    found: list[dict[str, Samples]] = []
    for place, of_side in enumerate(problems):
        tables.append([match_problem(problem) for problem in of_side])
        runs = [_numbers(p, t, sets) for p, t in zip(of_side, tables[-1], strict=True)]
        keys = runs[0]
        found.append({k: paired.over_seeds([run[k] for run in runs], seed=place) for k in keys})
    overall = found[0]["AP"] - found[1]["AP"]
    seeds = (len(sides[0].runs), len(sides[1].runs))
    called = [side.name for side in sides]
    if called[0] == called[1]:
        called = [f"{called[0]} (A)", f"{called[1]} (B)"]

    def rows(prefix: str, keys: Sequence[str]) -> tuple[Row, ...]:
        return tuple(_row(key, found[0][prefix + key], found[1][prefix + key]) for key in keys)

    return Versus(
        *called,
        seeds,
        images,
        f"paired {method(n, group, seeds=max(seeds) > 1)}",
        overall.p_value(),
        paired.sign_flip(*tables, n=flips, seed=seed) if flips else None,
        rows("", ("AP", "AP50", "AP75")),
        rows("size ", ("small", "medium", "large")),
        rows("class ", problems[0][0].class_names),
        rows("error ", (*KINDS, *SUMS)),
        _swings(truth, tables, swings) if swings else (),
        notes,
        tables[0][0].units,
        tuple(note for side in sides for note in side.notes),
        None if group is None else len(np.unique(group)),
    )


def _numbers(problem: Problem, whole: Matches, sets: np.ndarray) -> dict[str, Samples]:
    """Every number of one run on every set."""
    precision = precision_and_recall(whole, sets)[0]
    units = whole.units
    names = ("AP", "AP50", "AP75")
    found = {k: Samples.of(v, units) for k, v in zip(names, means(precision).T, strict=True)}
    for k, name in enumerate(problem.class_names):
        of_class = precision[:, k].mean(axis=1)
        found[f"class {name}"] = Samples.of(of_class, units_of(whole.positives[k], whole.group))
    for size in ("small", "medium", "large"):
        matches = match_problem(problem, size=size)
        of_size = over_classes(precision_and_recall(matches, sets)[0]).mean(axis=1)
        found[f"size {size}"] = Samples.of(of_size, matches.units)
    gains = {
        name: over_classes(precision_and_recall(table, sets)[0])[:, 0]
        for name, table in mended(problem, fates(problem)).items()
    }
    for name in (*KINDS, *SUMS):
        found[f"error {name}"] = Samples.of(gains[name] - gains[""], units)
    return found


def _row(name: str, first: Samples, second: Samples) -> Row:
    low, high = (first - second).interval() or (None, None)
    values = (first.estimate, second.estimate, first.estimate - second.estimate)
    return Row(name, *(float(v) if math.isfinite(v) else None for v in values), low, high)


def _swings(
    truth: dict[str, Any], tables: Sequence[Sequence[Matches]], most: int
) -> tuple[Swing, ...]:
    """The images that the difference owes most to, on either side."""
    records = sorted(truth["images"], key=lambda image: image["id"])
    owed = np.nan_to_num(paired.swings(*tables))
    order = np.argsort(-np.abs(owed), kind="stable")[:most]
    return tuple(
        Swing(records[i]["id"], str(records[i].get("file_name", records[i]["id"])), float(owed[i]))
        for i in order
        if abs(owed[i]) > 1e-12
    )


def _side(paths: Sequence[str | Path]) -> _Side:
    """Read one detector's runs or result files. ValueError names what cannot be read."""
    runs, results, truth = [], [], None
    for path in map(Path, paths):
        if path.is_dir():
            runs.append(load(path))
            results.append(_read(path / "predictions.json", list))
            truth = truth or _truth(path / "dataset.json")
        else:
            runs.append(None)
            results.append(path)
    if not runs:
        raise ValueError("no run was named")
    called = names([run for run in runs if run])
    every = list(dict.fromkeys(called.values())) or [Path(paths[0]).stem]
    if len(every) > 1:
        raise ValueError(
            f"{', '.join(map(str, paths))} are several detectors ({', '.join(every)}); a side is "
            "one detector, or one with several seeds"
        )
    return _Side(every[0], tuple(runs), tuple(results), truth)


def _join(side: _Side, truth: dict[str, Any]) -> _Side:
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


def _read(path: Path, kind: type) -> Any:
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        hint = "; detzoo evaluate writes it" if isinstance(error, FileNotFoundError) else ""
        raise ValueError(f"{path} cannot be read ({clean(error, 300)}){hint}") from None
    if not isinstance(value, kind):
        what = "COCO results, a list" if kind is list else "ground truth, a mapping"
        raise ValueError(f"{path} holds a {type(value).__name__}, not {what}")
    return value


def _truth(path: Path) -> dict[str, Any]:
    """COCO ground truth whose rows are what they should be. ValueError names file and row."""
    truth = _read(path, dict)
    for part in ("images", "annotations", "categories"):
        rows = truth.get(part)
        if not isinstance(rows, list):
            raise ValueError(f"{path} has no list of {part}; detzoo evaluate writes it anew")
        for at, row in enumerate(rows):
            if not isinstance(row, dict) or type(row.get("id")) is not int:
                raise ValueError(
                    f"{path}: {part}[{at}] is {clean(repr(row), 80)}, without an id that is a "
                    "whole number; detzoo evaluate writes it anew"
                )
    return truth


def _common(sides: Sequence[_Side]) -> tuple[dict[str, Any], tuple[str, ...], int]:
    """The ground truth of all, what differs in the protocol all the same, max_dets.

    ValueError if the runs were not scored on the same images.
    """
    truth = next((side.truth for side in sides if side.truth is not None), None)
    if truth is None:
        raise ValueError("no ground truth: result files need a run directory on the other side")
    runs = [run for side in sides for run in side.runs if run is not None]
    prints = [accuracy_fingerprint(run) for run in runs]
    differing = {
        key: list(dict.fromkeys(show(found[key]) for found in prints))
        for key in ACCURACY
        if len({json.dumps(found[key], sort_keys=True, default=str) for found in prints}) > 1
    }
    told = [f"{ACCURACY[key]}: {' | '.join(values)}" for key, values in differing.items()]
    ids = [
        {image.get("id") for image in side.truth["images"]}
        for side in sides
        if side.truth is not None and isinstance(side.truth.get("images"), list)
    ]
    if any(key in differing for key in SAME_IMAGES) or any(other != ids[0] for other in ids):
        where = "; ".join(told) or "image ids in dataset.json"
        raise ValueError(f"the runs were not scored on the same images. They differ in {where}")
    limits = [number(run.metrics, "max_dets") for run in runs]
    known = [int(limit) for limit in limits if not math.isnan(limit)]
    return truth, tuple(told), max(known, default=100)


def _problem(
    truth: dict[str, Any], results: list[dict[str, Any]], max_dets: int, name: str
) -> Problem:
    try:
        return arrays(truth, results, max_dets=max_dets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: {clean(error, 300)}") from None


def text(of: Versus) -> str:
    """The comparison for a terminal of 80 columns."""
    lines = [clean(of.verdict, 500)]
    if of.p_flip is not None:
        lines.append(f"Sign-flip test as a check: p = {of.p_flip:.2g}.")
    lines.append(f"{of.method}; intervals 95%, differences {of.first} less {of.second}")
    lines += [f"Note: they differ in {note}" for note in of.notes]
    lines += [f"Note: {note}" for note in of.results]
    heads = {"": of.ap, "AP by size": of.sizes, "AP by class": _by_difference(of.classes)}
    heads["AP50 lost to kind of error"] = of.errors
    for head, rows in heads.items():
        lines += ["", f"{head:<28}{shorten(of.first, 12):>13}{shorten(of.second, 12):>13}"]
        lines[-1] += f"{'difference':>13}"
        for row in rows:
            cells = [f"{'n/a' if v is None else f'{v:.3f}':>13}" for v in (row.first, row.second)]
            difference = "n/a" if row.difference is None else f"{row.difference:+.3f}"
            limits = "" if row.low is None else f" [{row.low:+.3f}, {row.high:+.3f}]"
            lines.append(f"  {shorten(row.name, 25):<26}{''.join(cells)}{difference:>13}{limits}")
    if of.swings:
        lines += ["", "Images that the difference in AP owes most to"]
        lines += [f"  {s.difference:+.4f}  {shorten(s.file_name, 64)}" for s in of.swings]
    return "\n".join(clean(line, 500).rstrip() for line in lines) + "\n"


def _by_difference(rows: Sequence[Row]) -> list[Row]:
    """The largest difference first, n/a last."""
    return sorted(rows, key=lambda row: 1.0 if row.difference is None else -abs(row.difference))
