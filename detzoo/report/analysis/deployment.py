"""How the detectors of a table do where they would be used: from a score that was chosen on val."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detzoo.metrics.matching import Problem, arrays
from detzoo.metrics.thresholds import ALARM_RATES, BEST_F1, PRECISE, RATES, choose
from detzoo.report.load.files import read
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, dig, interval, number

POINTS = (BEST_F1, PRECISE)


@dataclass(frozen=True)
class OperatingPoint:
    """threshold: of the score; val, test: each of metrics.thresholds.RATES there; limits: the 95%
    intervals of the test's. Unknown is None; reason: why there is no threshold."""

    threshold: float | None
    val: Mapping[str, float | None]
    test: Mapping[str, float | None]
    limits: Mapping[str, tuple[float, float] | None]
    reason: str | None = None


@dataclass(frozen=True)
class Deployment:
    """points: one for each of POINTS. froc: (81,) recall on test at ALARM_RATES, NaN if unknown."""

    points: Mapping[str, OperatingPoint]
    froc: np.ndarray


def deployment_of(run: Run, test: Problem, max_dets: int, n: int) -> Deployment:
    """The content of thresholds.json if it belongs to this scoring, else computed from predictions.

    n: resamples of that computation.
    """
    if run.external:
        return _none("no predictions on val: the results of another program are of the test set")
    if run.metrics.get("split") == "val":
        return _none("val itself is what is reported here")
    kept, _ = read(run.path, "thresholds.json")
    fingerprint = run.metrics.get("fingerprint")
    if isinstance(fingerprint, dict) and dig(kept, "fingerprint") == fingerprint:
        return _read(kept)
    truth, _ = read(run.path, "dataset-val.json")
    results, reason = read(run.path, "predictions-val.json")
    if not isinstance(truth, dict) or not isinstance(results, list):
        return _none(reason or "no predictions on val; detzoo evaluate keeps them")
    if truth.get("weights_hash") != dig(fingerprint, "weights_hash"):
        return _none("the predictions on val are of other weights; run detzoo evaluate again")
    try:
        return _read(choose(arrays(truth, results, max_dets=max_dets), test, n=n))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _none(f"the predictions on val cannot be used: {clean(error, 200)}")


def _none(reason: str) -> Deployment:
    nothing = dict.fromkeys(RATES)
    point = OperatingPoint(None, nothing, nothing, nothing, reason)
    return Deployment(dict.fromkeys(POINTS, point), np.full(len(ALARM_RATES), np.nan))


def _read(found: Any) -> Deployment:
    """From the content of a thresholds.json, which may come from elsewhere."""
    points = {}
    for name in POINTS:
        point = dig(found, "overall", name)
        threshold, reason = _known(number(point, "threshold")), dig(point, "reason")
        ends = {key: interval(point, "intervals", key) for key in RATES}
        points[name] = OperatingPoint(
            threshold,
            *({key: _known(number(point, of, key)) for key in RATES} for of in ("val", "test")),
            {key: None if math.isnan(ends[key][0]) else ends[key] for key in RATES},
            clean(reason, 200) if threshold is None and reason else None,
        )
    recall = [number(found, "froc", "recall", i) for i in range(len(ALARM_RATES))]
    return Deployment(points, np.array(recall))


def average(found: Sequence[Deployment]) -> Deployment:
    """Means over several runs of one detector, None where any run lacks the value; an interval is
    the envelope of the runs' intervals."""
    points = {}
    for name in POINTS:
        of = [deployment.points[name] for deployment in found]
        reasons = [point.reason for point in of if point.reason]
        points[name] = OperatingPoint(
            mean([point.threshold for point in of]),
            *(
                {key: mean([getattr(point, split)[key] for point in of]) for key in RATES}
                for split in ("val", "test")
            ),
            {key: _enclosing([point.limits[key] for point in of]) for key in RATES},
            reasons[0] if reasons else None,
        )
    return Deployment(points, np.mean([deployment.froc for deployment in found], axis=0))


def _enclosing(limits: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    if any(of is None for of in limits):
        return None
    lows, highs = zip(*limits, strict=True)
    return min(lows), max(highs)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if any value is None or not finite, or there is none."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
