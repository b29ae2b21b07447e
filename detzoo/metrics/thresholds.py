"""Score thresholds for deployment: chosen on val, evaluated on test, with intervals.

All at IoU 0.5 with the matches of COCO's AP. Precision, recall and false alarms are of all boxes
together; F1 is the mean over the classes that have boxes, as AP is. Letters as in matching.py; S
resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detzoo.metrics.bootstrap import Matches, match_problem
from detzoo.metrics.curves import IOU, THRESHOLDS, f1
from detzoo.metrics.matching import Problem
from detzoo.metrics.samples import Samples, method, units_of

BEST_F1, PRECISE = "best_f1", "precision_90"
PRECISION = 0.9  # of the threshold PRECISE
RATES = ("f1", "precision", "recall", "false_alarms", "alarmed")
ALARM_RATES = np.geomspace(0.01, 100, 81)  # false alarms an image, of a FROC curve


@dataclass(frozen=True)
class Counts:
    """At one threshold, for each class and image: (K, I) int64 hits, misses and boxes to find.

    without: (K, I) bool, images that hold no box of the class, a crowd counting as one. group: (I,)
    as in matching.py.
    """

    hit: np.ndarray
    miss: np.ndarray
    positives: np.ndarray
    without: np.ndarray
    group: np.ndarray | None = None

    def of_class(self, k: int) -> Counts:
        parts = (self.hit, self.miss, self.positives, self.without)
        return Counts(*(part[k : k + 1] for part in parts), self.group)

    def rates(self, sets: np.ndarray) -> dict[str, Samples]:
        """Each of RATES on `sets`, (1 + S, I) as `Matches.sets` gives them.

        alarmed: the share of images without any of the classes that have a detection.
        """
        sets = sets.astype(np.float64)  # whole numbers still, by the fast product
        hit, miss, positives = (sets @ part.T for part in (self.hit, self.miss, self.positives))
        tp, fp, boxes = (part.sum(axis=1) for part in (hit, miss, positives))
        empty = self.without.all(axis=0)
        alarm = empty & (self.miss > 0).any(axis=0)
        known = np.where(positives > 0, positives, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_classes = 2 * hit / (hit + miss + known)
            counted = np.maximum((~np.isnan(of_classes)).sum(axis=1), 1)
            mean = np.where(boxes > 0, np.nansum(of_classes, axis=1) / counted, np.nan)
            precision, recall = tp / (tp + fp), tp / boxes
            alarmed = (sets @ alarm) / (sets @ empty)
        units = units_of(self.positives, self.group)
        images, quiet = (units_of(of, self.group) for of in (np.ones_like(empty), empty))
        most = max(1.0, float(self.miss.sum(axis=0).max(initial=0)))  # on one image
        alarms = fp / sets.sum(axis=1)
        return {
            "f1": Samples.from_values(mean, units),
            "precision": Samples.from_values(precision, units),
            "recall": Samples.from_values(recall, units),
            "false_alarms": Samples(alarms[0], alarms[1:], images, (0.0, most)),
            "alarmed": Samples.from_values(alarmed, quiet),
        }


def counts(problem: Problem, matches: Matches, threshold: float) -> Counts:
    """The counts at a threshold. matches: of the problem, at IoU 0.5."""
    shape = matches.positives.shape
    used = matches.score >= threshold
    found = []
    for fate in (matches.hit[0], matches.miss[0]):
        count = np.zeros(shape, np.int64)
        np.add.at(count, (matches.label[used & fate], matches.image[used & fate]), 1)
        found.append(count)
    there = problem.count(np.ones(len(problem.boxes), bool)) > 0
    return Counts(*found, matches.positives, ~there, matches.group)


def choose(
    val: Problem, test: Problem, *, n: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """The content of thresholds.json, without its fingerprint; n/a is None.

    `overall` and, by name, `classes`: for each of BEST_F1, the threshold with the best F1 on val
    (the lowest of equals), and PRECISE, the lowest with a precision on val of at least PRECISION:
    the `threshold` or the `reason` why there is none, RATES on `val` and `test` there, and the
    `intervals` of the test's, by resampling images (or groups of them), for a fixed threshold. The
    classes of the two must be the same. `froc`: recall on test at ALARM_RATES.
    """
    if val.class_names != test.class_names:
        raise ValueError(
            f"val has the classes {val.class_names!r:.200}, test {test.class_names!r:.200}; a "
            "threshold of the one says nothing of the other"
        )
    matches = {of: match_problem(p, thresholds=IOU) for of, p in (("val", val), ("test", test))}
    tried = f1(matches["val"])
    curves = {None: (tried.mean, _pooled_precision(matches["val"]))}
    curves |= {k: (tried.f1[k], tried.precision[k]) for k in range(len(val.class_names))}
    once, sets = np.ones((1, len(val.image_ids)), int), matches["test"].sets(n, seed)

    def judged(k: int | None, threshold: float | None, reason: str | None) -> dict[str, Any]:
        point: dict[str, Any] = {"threshold": threshold, "reason": reason}
        none = dict.fromkeys(RATES)
        if threshold is None:
            return point | {"val": none, "test": none, "intervals": none}
        of_val, of_test = (
            counts(problem, matches[of], threshold)
            for of, problem in (("val", val), ("test", test))
        )
        if k is not None:
            of_val, of_test = of_val.of_class(k), of_test.of_class(k)
        on_val, on_test = of_val.rates(once), of_test.rates(sets)
        return point | {
            "val": {name: _number(samples.estimate) for name, samples in on_val.items()},
            "test": {name: _number(samples.estimate) for name, samples in on_test.items()},
            "intervals": {name: samples.interval(level) for name, samples in on_test.items()},
        }

    def points(k: int | None) -> dict[str, Any]:
        quality, precision = curves[k]
        return {
            BEST_F1: judged(k, *_best(quality)),
            PRECISE: judged(k, *_lowest(precision, quality)),
        }

    return {
        "iou": float(IOU[0]),
        "chosen_on": "val",
        "method": f"{method(n, test.group)}, at the threshold chosen on all of val",
        "images": {"val": len(val.image_ids), "test": len(test.image_ids)},
        "overall": points(None),
        "classes": {name: points(k) for k, name in enumerate(val.class_names)},
        "froc": {
            "false_alarms": ALARM_RATES.tolist(),
            "recall": [_number(value) for value in froc(matches["test"])],
        },
    }


def froc(matches: Matches, row: int = 0) -> np.ndarray:
    """(81,) float64: the largest recall at no more than each of ALARM_RATES false alarms an image,
    all classes in one list by score; NaN without boxes.

    Bunch et al., A free response approach to the measurement and characterization of radiographic
    observer performance, Proc. SPIE 127 (1977).
    """
    boxes = matches.positives.sum()
    if not boxes:
        return np.full(len(ALARM_RATES), np.nan)
    order = np.argsort(-matches.score, kind="stable")
    hits, alarms = (fate[row, order].cumsum() for fate in (matches.hit, matches.miss))
    last = np.diff(matches.score[order], append=-np.inf) != 0  # equal scores come together
    recall = np.append(0.0, hits[last] / boxes)
    rate = np.append(0.0, alarms[last] / matches.images)
    place = rate.searchsorted(ALARM_RATES, side="right") - 1
    return recall[place]


def _pooled_precision(matches: Matches) -> np.ndarray:
    """(101,): of all boxes at or above each of THRESHOLDS; NaN where there is none."""
    hits, misses = (
        len(score) - np.sort(score).searchsorted(THRESHOLDS)
        for score in (matches.score[fate[0]] for fate in (matches.hit, matches.miss))
    )
    with np.errstate(invalid="ignore"):
        return hits / (hits + misses)


def _best(quality: np.ndarray) -> tuple[float | None, str | None]:
    if np.isnan(quality).all():
        return None, "val has no boxes"
    return float(THRESHOLDS[int(quality.argmax())]), None


def _lowest(precision: np.ndarray, quality: np.ndarray) -> tuple[float | None, str | None]:
    if np.isnan(quality).all():
        return None, "val has no boxes"
    enough = np.flatnonzero(np.nan_to_num(precision) >= PRECISION)
    if not len(enough):
        return None, f"no threshold has a precision of {PRECISION} on val"
    return float(THRESHOLDS[enough[0]]), None


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def threshold_of(kept: Mapping[str, Any], point: str = BEST_F1) -> float | None:
    """The overall threshold that a thresholds.json holds; None where there is none in [0, 1].

    The file may come from elsewhere, so its content is checked.
    """
    found: Any = kept
    for key in ("overall", point, "threshold"):
        found = found.get(key) if isinstance(found, Mapping) else None
    sound = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= 1
    return float(found) if sound else None
