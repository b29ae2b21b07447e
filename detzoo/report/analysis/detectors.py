"""Analysis of the predictions of a table's detectors: paired tests, errors, curves.

Computed from predictions.json and dataset.json of the runs at every report. A run whose predictions
do not give the AP in its metrics.json is left out, with a note: the files are of two scorings.
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
from detzoo.metrics.permutation import differing_pairs
from detzoo.metrics.samples import FEWEST, Samples, draw_sets, method
from detzoo.metrics.thresholds import BEST_F1
from detzoo.report.analysis.deployment import (
    Deployment,
    OperatingPoint,
    average,
    deployment_of,
    mean,
)
from detzoo.report.load.external import ground_truth, most_detections
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, number

SCORE = 0.3  # the threshold where none could be chosen on val
SAME_AP = 5e-4  # two backends agree to 1e-4
# Columns of the leaderboard, of the operating point on the test set
DEPLOYED = {"F1": "f1", "precision": "precision", "recall": "recall"}
IOUS = {0.5: 0, 0.75: 5}  # of the precision-recall curves -> the row in a match table


@dataclass(frozen=True)
class Detail:
    """One detector. With several seeds, errors, f1, deployment and pr are means, and a mean dAP is
    None where any seed's is; problem, confusion and the calibration are the first seed's.

    tables: one per seed. samples: of every number in NAMES. pr: (2, 101) precision at each recall,
    one row for each of IOUS, mean over classes. f1: (101,) on the test set, mean over classes; NaN
    without boxes. score: the first one's threshold with the best F1 on val, SCORE where there is
    none.
    """

    problem: Problem
    tables: Sequence[Matches]
    samples: dict[str, Samples]
    errors: dict[str, Kind]
    pr: np.ndarray
    f1: np.ndarray
    deployment: Deployment
    score: float
    confusion: np.ndarray
    d_ece: calibration.Reliability
    laece0: calibration.LocalisationCalibration
    lrp: dict[str, float | None]

    @property
    def point(self) -> OperatingPoint:
        """With the best F1 on val."""
        return self.deployment.points[BEST_F1]


@dataclass(frozen=True)
class Analysis:
    """truth: COCO's ground truth. details: name -> Detail, of detectors whose predictions could be
    read. pairs: of all of them; ranks: of every detector in the table. method: of the paired test.
    notes: which detectors were left out, and why.
    """

    truth: Mapping[str, Any]
    details: Mapping[str, Detail]
    pairs: Sequence[Pair]
    ranks: Mapping[str, tuple[int, int]]
    method: str
    notes: Sequence[str]

    def complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table with ranks, operating points, intervals of means (over images and seeds), and
        the intervals that the metrics.json of single runs lacks."""
        frame = frame.copy()
        several = set(frame.loc[frame["kind"] == "mean", "detector"])
        for place, row in frame.iterrows():
            name = row["detector"]
            if row["kind"] == "run" and name in several:
                continue
            if len(self.details) > 1:
                frame.loc[place, ["rank", "rank_worst"]] = self.ranks[name]
            if name in self.details:
                point = self.details[name].point
                of_test = (point.test[key] for key in DEPLOYED.values())
                if point.threshold is not None:
                    frame.loc[place, ["threshold", *DEPLOYED]] = [
                        math.nan if v is None else v for v in (point.threshold, *of_test)
                    ]
            for key in NAMES if name in self.details else ():
                few = (
                    self.details[name].samples[key].units < FEWEST
                )  # intervals of earlier versions were too narrow
                missing = few or pd.isna(row[f"{key}_low"]) or pd.isna(row[f"{key}_high"])
                bounds = self.details[name].samples[key].interval()
                if bounds and not pd.isna(row[key]) and (row["kind"] == "mean" or missing):
                    frame.loc[place, [f"{key}_low", f"{key}_high"]] = bounds
        return frame


def analyse(
    by_name: Mapping[str, Sequence[Run]], *, n: int = 1000, seed: int = 0
) -> Analysis | str:
    """Analyse the detectors of one table (name -> runs); a text says why that is impossible."""
    runs = [run for members in by_name.values() for run in members]
    truth, problem = ground_truth(runs)
    if problem:
        return problem
    max_dets = most_detections(runs)
    notes: list[str] = []
    details: dict[str, Detail] = {}
    seeds, group = False, None
    for place, (name, members) in enumerate(by_name.items()):
        sound = [
            (run, found)
            for run in members
            if (found := _sound(run, truth, max_dets, f"{name} ({run.title})", notes))
        ]
        if len(sound) == len(members):  # otherwise its mean would cover other runs than the table's
            group = sound[0][1][0].group
            sets = draw_sets(len(truth["images"]), n, seed, group)
            details[name] = _detail(sound, sets, max_dets, place)
            seeds |= len(sound) > 1
    found = pairs_of(
        {name: detail.samples["AP"] for name, detail in details.items()},
        apart=differing_pairs({name: detail.tables for name, detail in details.items()}),
    )
    test = f"paired {method(n, group, seeds=seeds)}"
    return Analysis(truth, details, found, ranks(list(by_name), found), test, notes)


def _sound(
    run: Run, truth: Mapping[str, Any], max_dets: int, title: str, notes: list[str]
) -> tuple[Problem, Matches] | None:
    """The run's detections, if they can be read and give the AP that the run reports."""
    results, reason = run.results()
    if not isinstance(results, list):
        notes.append(f"{title}: {reason or 'it has no predictions.json'}")
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
            f"{scored:.4f}, so they are of two scorings; run detzoo evaluate again"
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
    deployed = [deployment_of(run, problem, max_dets, len(sets)) for run, (problem, _) in sound]
    chosen = deployed[0].points[BEST_F1].threshold
    score = SCORE if chosen is None else chosen
    used = problems[0].above(score)
    of_runs = [errors(problem) for problem in problems]
    lrps = [curves.lrp(problem) for problem in problems]
    return Detail(
        problem=problems[0],
        tables=tables,
        samples=samples,
        errors={
            name: Kind(
                round(np.mean([of[name].count for of in of_runs])),
                mean([of[name].dap for of in of_runs]),
            )
            for name in (*KINDS, *SUMS)
        },
        pr=np.mean([_pr(table) for table in tables], axis=0),
        f1=np.mean([f1.mean for f1 in tested], axis=0),
        deployment=average(deployed),
        score=score,
        confusion=curves.confusion(problems[0], score),
        d_ece=calibration.d_ece(used),
        laece0=calibration.laece0(used),
        lrp={
            "oLRP": mean([curves.mean_lrp(of) for of in lrps]),
            **{
                part: mean([_mean_known([getattr(c, part) for c in of if c]) for of in lrps])
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


def _mean_known(values: Sequence[float | None]) -> float | None:
    return mean([value for value in values if value is not None])
