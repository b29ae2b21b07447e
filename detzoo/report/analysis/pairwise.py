"""Two detectors on the same images: the difference in AP, how sure it is, and where it comes from.

Every difference is the first's number less the second's, so that above 0 the first is better, but
for the kinds of error: there it is what the first loses more than the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detzoo.metrics import paired, permutation
from detzoo.metrics.bootstrap import (
    Matches,
    match_problem,
    means,
    over_classes,
    precision_and_recall,
)
from detzoo.metrics.errors import KINDS, SUMS, classify_errors, match_without_errors
from detzoo.metrics.matching import Problem
from detzoo.metrics.samples import FEWEST, Samples, draw_sets, method, units_of
from detzoo.report.analysis.sides import common_truth, join, problem_of, read_side
from detzoo.report.analysis.verdict import count_images
from detzoo.report.load.values import clean, shorten
from detzoo.text import interval_text


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
    """How much of the difference in AP comes from one image (`image_contributions`)."""

    image_id: int
    file_name: str
    difference: float


@dataclass(frozen=True)
class PairwiseResult:
    """first, second: names; seeds: how many runs each. p: two-sided, of the paired bootstrap that
    `method` describes; p_flip: of the sign-flip test, None where the numbers of seeds differ. ap:
    AP, AP50, AP75; sizes, classes: AP; errors: dAP of every kind. swings: the largest first. notes:
    what else of the protocol differs. units: the images, or groups of images, that have a box to
    find; differing: those that the difference comes from. groups: their number, None where images
    are not grouped. results: how result files were read.
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
    differing: int | None = None
    results: tuple[str, ...] = ()
    groups: int | None = None

    @property
    def verdict(self) -> str:
        """One sentence, no surer than the test."""
        row, on = self.ap[0], f"on {count_images(self.images, self.groups)}"
        if row.difference is None or self.p is None:
            return f"No AP can be compared {on}: there is no ground truth to score against."
        numbers = (
            f"{row.difference:+.3f} {interval_text(row.low, row.high, '+.3f')}, p = {self.p:.2g}"
        )
        if self.p >= 0.05:
            both = f"{self.first} and {self.second}"
            return f"{both} cannot be told apart {on}: AP {numbers}.{self._few}"
        better, worse = (self.first, self.second)[:: 1 if row.difference > 0 else -1]
        return f"{better} is better than {worse} {on}: AP {numbers}."

    @property
    def _few(self) -> str:
        """Why the data are too few for the test to reach 5%; "" where they suffice."""
        units = "images" if self.groups is None else "groups of images"
        if self.units is not None and self.units < FEWEST:
            return f" Fewer than {FEWEST} {units} with boxes tell nothing apart."
        if self.differing is not None and 0 < self.differing < FEWEST:
            on = f"They differ on {self.differing} {units}"
            return f" {on}, and fewer than {FEWEST} tell nothing apart."
        return ""


def compare_detectors(
    first: Sequence[str | Path],
    second: Sequence[str | Path],
    *,
    n: int = 1000,
    flips: int = 1000,
    swings: int = 10,
    seed: int = 0,
) -> PairwiseResult:
    """Compare two detectors, each given by its run directories (its seeds) or by COCO result JSONs.

    n: resamples; flips: of the sign-flip test, 0 for none; swings: images to name. Ground truth is
    that of a run; result files alone have none. Raises ValueError for what cannot be read, and with
    the fields that differ for runs that were not scored on the same images.
    """
    sides = (read_side(first), read_side(second))
    truth, notes, max_dets = common_truth(sides)
    sides = tuple(join(side, truth) for side in sides)
    problems = [
        [problem_of(truth, results, max_dets, side.name) for results in side.results]
        for side in sides
    ]
    images, group = len(problems[0][0].image_ids), problems[0][0].group
    sets = draw_sets(images, n, seed, group)
    tables: list[list[Matches]] = []
    found: list[dict[str, Samples]] = []
    for place, of_side in enumerate(problems):
        tables.append([match_problem(problem) for problem in of_side])
        runs = [_numbers(p, t, sets) for p, t in zip(of_side, tables[-1], strict=True)]
        found.append({k: paired.over_seeds([r[k] for r in runs], seed=place) for k in runs[0]})
    apart = permutation.count_differing(*tables)
    overall = replace(found[0]["AP"] - found[1]["AP"], differing=apart)
    seeds = (len(sides[0].runs), len(sides[1].runs))
    called = [side.name for side in sides]
    if called[0] == called[1]:
        called = [f"{called[0]} (A)", f"{called[1]} (B)"]

    def rows(prefix: str, keys: Sequence[str]) -> tuple[Row, ...]:
        return tuple(
            _row(key, found[0][prefix + key], found[1][prefix + key], apart) for key in keys
        )

    return PairwiseResult(
        *called,
        seeds,
        images,
        f"paired {method(n, group, seeds=max(seeds) > 1)}",
        overall.p_value(),
        permutation.sign_flip(*tables, n=flips, seed=seed) if flips else None,
        rows("", ("AP", "AP50", "AP75")),
        rows("size ", ("small", "medium", "large")),
        rows("class ", problems[0][0].class_names),
        rows("error ", (*KINDS, *SUMS)),
        _swings(truth, tables, swings) if swings else (),
        notes,
        tables[0][0].units,
        apart,
        tuple(note for side in sides for note in side.notes),
        None if group is None else len(np.unique(group)),
    )


def _numbers(problem: Problem, whole: Matches, sets: np.ndarray) -> dict[str, Samples]:
    """Every number of one run on every set."""
    precision = precision_and_recall(whole, sets)[0]
    units = whole.units
    names = ("AP", "AP50", "AP75")
    found = {
        k: Samples.from_values(v, units) for k, v in zip(names, means(precision).T, strict=True)
    }
    for k, name in enumerate(problem.class_names):
        of_class = precision[:, k].mean(axis=1)
        found[f"class {name}"] = Samples.from_values(
            of_class, units_of(whole.positives[k], whole.group)
        )
    for size in ("small", "medium", "large"):
        matches = match_problem(problem, size=size)
        of_size = over_classes(precision_and_recall(matches, sets)[0]).mean(axis=1)
        found[f"size {size}"] = Samples.from_values(of_size, matches.units)
    gains = {
        name: over_classes(precision_and_recall(table, sets)[0])[:, 0]
        for name, table in match_without_errors(problem, classify_errors(problem)).items()
    }
    for name in (*KINDS, *SUMS):
        found[f"error {name}"] = Samples.from_values(gains[name] - gains[""], units)
    return found


def _row(name: str, first: Samples, second: Samples, apart: int) -> Row:
    """apart: the images on which the two differ."""
    low, high = replace(first - second, differing=apart).interval() or (None, None)
    values = (first.estimate, second.estimate, first.estimate - second.estimate)
    return Row(name, *(float(v) if math.isfinite(v) else None for v in values), low, high)


def _swings(
    truth: dict[str, Any], tables: Sequence[Sequence[Matches]], most: int
) -> tuple[Swing, ...]:
    """The images that the difference owes most to, on either side."""
    records = sorted(truth["images"], key=lambda image: image["id"])
    owed = np.nan_to_num(permutation.image_contributions(*tables))
    order = np.argsort(-np.abs(owed), kind="stable")[:most]
    return tuple(
        Swing(records[i]["id"], str(records[i].get("file_name", records[i]["id"])), float(owed[i]))
        for i in order
        if abs(owed[i]) > 1e-12
    )


def format_text(result: PairwiseResult) -> str:
    """The comparison for a terminal of 80 columns."""
    lines = [clean(result.verdict, 500)]
    if result.p_flip is not None:
        lines.append(f"Sign-flip test as a check: p = {result.p_flip:.2g}.")
    lines.append(f"{result.method}; intervals 95%, differences {result.first} less {result.second}")
    lines += [f"Note: they differ in {note}" for note in result.notes]
    lines += [f"Note: {note}" for note in result.results]
    heads = {
        "": result.ap,
        "AP by size": result.sizes,
        "AP by class": _by_difference(result.classes),
    }
    heads["AP50 lost to kind of error"] = result.errors
    for head, rows in heads.items():
        lines += ["", f"{head:<28}{shorten(result.first, 12):>13}{shorten(result.second, 12):>13}"]
        lines[-1] += f"{'difference':>13}"
        for row in rows:
            cells = [f"{'n/a' if v is None else f'{v:.3f}':>13}" for v in (row.first, row.second)]
            difference = "n/a" if row.difference is None else f"{row.difference:+.3f}"
            limits = "" if row.low is None else f" {interval_text(row.low, row.high, '+.3f')}"
            lines.append(f"  {shorten(row.name, 25):<26}{''.join(cells)}{difference:>13}{limits}")
    if result.swings:
        lines += ["", "Images that the difference in AP owes most to"]
        lines += [f"  {s.difference:+.4f}  {shorten(s.file_name, 64)}" for s in result.swings]
    return "\n".join(clean(line, 500).rstrip() for line in lines) + "\n"


def _by_difference(rows: Sequence[Row]) -> list[Row]:
    """The largest difference first, n/a last."""
    return sorted(rows, key=lambda row: 1.0 if row.difference is None else -abs(row.difference))
