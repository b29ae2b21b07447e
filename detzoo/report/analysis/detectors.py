"""What the predictions of a table's detectors say beyond their AP: tests, errors, curves.

Made from predictions.json and dataset.json of the runs, each time anew. A run whose predictions do
not come to the AP in its metrics.json is left out, with a note: they are not of one scoring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from detzoo.metrics import calibration, curves
from detzoo.metrics.bootstrap import (
    NAMES,
    Matches,
    match_problem,
    sample_numbers,
)
from detzoo.metrics.errors import KINDS, SUMS, Kind, errors
from detzoo.metrics.matching import Problem, arrays
from detzoo.metrics.paired import Pair, over_seeds, pairs_of, ranks
from detzoo.metrics.samples import FEWEST, Samples, draw_sets, method
from detzoo.report.load.external import ground_truth, most_detections
from detzoo.report.load.runs import Run, clean, number, read

SCORE = 0.3  # from where detections count where no threshold could be chosen on val
SAME_AP = 5e-4  # two backends agree to 1e-4
IOUS = {0.5: 0, 0.75: 5}  # of the precision-recall curves -> the row in a match table


@dataclass(frozen=True)
class Detail:
    """One detector. Of several seeds: errors, f1, point and pr are means, and the mean of dAP is
    None where any is; problem, confusion and the calibration are of the first.

    samples: of every number in NAMES. pr: (2, 101) precision at each recall, one row for each of
    IOUS, mean over classes. f1: (101,) on the test set, mean over classes; NaN without boxes.
    point: the threshold chosen on val; score: that threshold, SCORE where there is none.
    """

    problem: Problem
    samples: dict[str, Samples]
    errors: dict[str, Kind]
    pr: np.ndarray
    f1: np.ndarray
    precision: float | None
    recall: float | None
    point: curves.OperatingPoint
    score: float
    confusion: np.ndarray
    d_ece: calibration.Reliability
    laece0: calibration.LocalisationCalibration
    lrp: dict[str, float | None]


@dataclass(frozen=True)
class Analysis:
    """truth: COCO's ground truth. of: name -> Detail, of whom predictions could be read. pairs: of
    all of them; ranks: of every detector in the table. notes: who was left out, and why.
    """

    truth: Mapping[str, Any]
    of: Mapping[str, Detail]
    pairs: Sequence[Pair]
    ranks: Mapping[str, tuple[int, int]]
    method: str
    notes: Sequence[str]

    def told_in(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table with ranks, the intervals of means (images and seeds together), and those of
        single runs that their metrics.json lacks."""
        frame = frame.copy()
        several = set(frame.loc[frame["kind"] == "mean", "detector"])
        for place, row in frame.iterrows():
            name = row["detector"]
            if row["kind"] == "run" and name in several:
                continue
            if len(self.of) > 1:
                frame.loc[place, ["rank", "rank_worst"]] = self.ranks[name]
            if name in self.of:
                point = self.of[name]
                values = (point.point.test, point.point.threshold, point.precision, point.recall)
                if point.point.threshold is not None:
                    frame.loc[place, ["F1", "threshold", "precision", "recall"]] = [
                        math.nan if v is None else v for v in values
                    ]
            for key in NAMES if name in self.of else ():
                few = self.of[name].samples[key].units < FEWEST  # runs of old were too sure
                missing = few or pd.isna(row[f"{key}_low"]) or pd.isna(row[f"{key}_high"])
                bounds = self.of[name].samples[key].interval()
                if bounds and not pd.isna(row[key]) and (row["kind"] == "mean" or missing):
                    frame.loc[place, [f"{key}_low", f"{key}_high"]] = bounds
        return frame


def analyse(
    by_name: Mapping[str, Sequence[Run]], *, n: int = 1000, seed: int = 0
) -> Analysis | str:
    """Of the detectors of one table (name -> runs); else why there is nothing to analyse."""
    runs = [run for members in by_name.values() for run in members]
    truth, problem = ground_truth(runs)
    if problem:
        return problem
    max_dets = most_detections(runs)
    notes: list[str] = []
    of: dict[str, Detail] = {}
    seeds, group = False, None
    for place, (name, members) in enumerate(by_name.items()):
        sound = [
            (run, found)
            for run in members
            if (found := _sound(run, truth, max_dets, f"{name} ({run.title})", notes))
        ]
        if len(sound) == len(members):  # else its mean would be of other runs than the table's
            group = sound[0][1][0].group
            sets = draw_sets(len(truth["images"]), n, seed, group)
            of[name] = _detail(sound, sets, max_dets, place)
            seeds |= len(sound) > 1
    found = pairs_of({name: detail.samples["AP"] for name, detail in of.items()})
    said = f"paired {method(n, group, seeds=seeds)}"
    return Analysis(truth, of, found, ranks(list(by_name), found), said, notes)


def _sound(
    run: Run, truth: Mapping[str, Any], max_dets: int, title: str, notes: list[str]
) -> tuple[Problem, Matches] | None:
    """The run's detections if they can be read and are what its AP is of."""
    results, said = run.results()
    if not isinstance(results, list):
        notes.append(f"{title}: {said or 'it has no predictions.json'}")
        return None
    try:
        problem = arrays(truth, results, max_dets=max_dets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{title}: predictions.json: {clean(error, 300)}")
        return None
    matches = match_problem(problem)
    scored = number(run.metrics, "AP")
    once = np.ones((1, len(problem.image_ids)), np.int32)
    found = sample_numbers(problem, once)["AP"].estimate
    if abs(scored - found) > SAME_AP or np.isnan(scored) != np.isnan(found):
        notes.append(
            f"{title}: predictions.json comes to AP {found:.4f}, its metrics.json says "
            f"{scored:.4f}, so that they are not of one scoring; detzoo evaluate makes them one"
        )
        return None
    return problem, matches


def _detail(
    sound: Sequence[tuple[Run, tuple[Problem, Matches]]],
    sets: np.ndarray,
    max_dets: int,
    place: int,
) -> Detail:
    problems = [problem for _, (problem, _) in sound]
    tables = [matches for _, (_, matches) in sound]
    sampled = [sample_numbers(problem, sets) for problem in problems]
    samples = {
        key: over_seeds([of[key] for of in sampled], seed=place) if len(sampled) > 1 else first
        for key, first in sampled[0].items()
    }
    tested = [curves.f1(table) for table in tables]
    points = [_point(run, f1, max_dets) for (run, _), f1 in zip(sound, tested, strict=True)]
    scores = [SCORE if p.threshold is None else p.threshold for p in points]
    used = problems[0].above(scores[0])
    at = [round(100 * score) for score in scores]
    of_runs = [errors(problem) for problem in problems]
    lrps = [curves.lrp(problem) for problem in problems]
    return Detail(
        problem=problems[0],
        samples=samples,
        errors={
            name: Kind(
                round(np.mean([of[name].count for of in of_runs])),
                _mean([of[name].dap for of in of_runs]),
            )
            for name in (*KINDS, *SUMS)
        },
        pr=np.mean([_pr(table) for table in tables], axis=0),
        f1=np.mean([f1.mean for f1 in tested], axis=0),
        precision=_mean([_over(f1.precision[:, i]) for f1, i in zip(tested, at, strict=True)]),
        recall=_mean([_over(f1.recall[:, i]) for f1, i in zip(tested, at, strict=True)]),
        point=_mean_point(points),
        score=scores[0],
        confusion=curves.confusion(problems[0], scores[0]),
        d_ece=calibration.d_ece(used),
        laece0=calibration.laece0(used),
        lrp={
            "oLRP": _mean([curves.mean_lrp(of) for of in lrps]),
            **{
                part: _mean([_mean_known([getattr(c, part) for c in of if c]) for of in lrps])
                for part in ("localisation", "false_positive", "false_negative")
            },
        },
    )


def _pr(table: Matches) -> np.ndarray:
    """(2, 101): precision at each recall, the mean over the classes that have boxes."""
    rows = []
    for row in IOUS.values():
        known = [of.precision for of in curves.precision_recall(table, row) if of is not None]
        rows.append(np.mean(known, axis=0) if known else np.full(101, np.nan))
    return np.stack(rows)


def _point(run: Run, test: curves.F1, max_dets: int) -> curves.OperatingPoint:
    """The threshold chosen on the run's predictions of val, which `detzoo evaluate` keeps."""
    none = curves.operating_point(None, test)

    def because(reason: str) -> curves.OperatingPoint:
        return curves.OperatingPoint(none.threshold, none.val, none.test, reason)

    if run.external:
        return because("no predictions on val: the results of another program are of the test set")
    if run.metrics.get("split") == "val":
        return because("val itself is what is reported here")
    truth, _ = read(run.path, "dataset-val.json")
    results, said = read(run.path, "predictions-val.json")
    if not isinstance(truth, dict) or not isinstance(results, list):
        return because(said or "no predictions on val; detzoo evaluate keeps them")
    scored = (run.metrics.get("fingerprint") or {}).get("weights_hash")
    if truth.get("weights_hash") != scored:
        return because("the predictions on val are of other weights; detzoo evaluate mends it")
    try:
        val = curves.f1(match_problem(arrays(truth, results, max_dets=max_dets)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return because(f"the predictions on val cannot be used: {clean(error, 200)}")
    return curves.operating_point(val, test)


def _mean_point(points: Sequence[curves.OperatingPoint]) -> curves.OperatingPoint:
    reasons = [point.reason for point in points if point.reason]
    return curves.OperatingPoint(
        *(_mean([getattr(p, key) for p in points]) for key in ("threshold", "val", "test")),
        reasons[0] if reasons else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if any value is, or there is none."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _mean_known(values: Sequence[float | None]) -> float | None:
    return _mean([value for value in values if value is not None])


def _over(values: np.ndarray) -> float | None:
    """The mean over classes that have a number."""
    return _mean_known([float(v) for v in values if np.isfinite(v)])
