"""Curves over the score threshold: precision and recall, F1, confusion, LRP.

All at one IoU threshold, 0.5, with the matches that COCO's AP counts. A class without boxes is
None ("n/a") and enters no mean. Letters as in matching.py; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from detzoo.metrics.bootstrap import RECALLS, Matches
from detzoo.metrics.matching import Problem, assign, overlaps, taken_iou

THRESHOLDS = np.linspace(0, 1, 101)  # of the score; a detection counts from there on
IOU = np.array([0.5])


@dataclass(frozen=True)
class PrecisionRecall:
    """precision, score: (101,) float64 at RECALLS; both 0 where that recall is never reached.

    precision: the largest at this recall or a higher one; its mean is AP. score: of the detection
    that reaches the recall.
    """

    precision: np.ndarray
    score: np.ndarray


def precision_recall(matches: Matches, row: int = 0) -> list[PrecisionRecall | None]:
    """One curve a class, as COCO draws it, at the row-th IoU threshold of `matches` (its first)."""
    found: list[PrecisionRecall | None] = []
    for k, positives in enumerate(matches.positives.sum(axis=1)):
        if not positives:
            found.append(None)
            continue
        mine = (matches.label == k) & (matches.hit[row] | matches.miss[row])
        hits = matches.hit[row, mine].cumsum()
        precision = hits / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        place = (hits / positives).searchsorted(RECALLS)
        curve = (np.append(a, 0.0)[place] for a in (envelope, matches.score[mine]))
        found.append(PrecisionRecall(*curve))
    return found


@dataclass(frozen=True)
class F1:
    """At each of THRESHOLDS: (K, 101) float64, NaN for a class without boxes; the mean (101,).

    precision is NaN where nothing is predicted.
    """

    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """F1 averaged over the classes that have boxes; NaN if none has."""
        known = ~np.isnan(self.f1[:, 0])
        return self.f1[known].mean(axis=0) if known.any() else np.full(len(THRESHOLDS), np.nan)


def f1(matches: Matches, row: int = 0) -> F1:
    """F1 = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN), from the
    detections whose score is at least the threshold.

    van Rijsbergen, Information Retrieval (1979), chapter 7: the harmonic mean of the two.
    """
    positives = matches.positives.sum(axis=1)
    tp, fp = (_at_least(matches, fate[row]) for fate in (matches.hit, matches.miss))  # (K, 101)
    of = np.where(positives, positives, np.nan)[:, None]
    with np.errstate(invalid="ignore"):
        return F1(2 * tp / (tp + fp + of), tp / (tp + fp) + 0 * of, tp / of)


def _at_least(matches: Matches, which: np.ndarray) -> np.ndarray:
    """(K, 101): how many of the detections `which` (N,) score at least each of THRESHOLDS."""
    rows = []
    for k in range(len(matches.positives)):
        score = np.sort(matches.score[which & (matches.label == k)])
        rows.append(len(score) - score.searchsorted(THRESHOLDS))
    return np.array(rows)


def confusion(problem: Problem, score: float) -> np.ndarray:
    """(K + 1, K + 1) int64: boxes of class i (rows) taken for class j (columns); last: background.

    Of the detections with at least this score. Matching is one to one, at IoU 0.5: first within the
    classes as AP does it, so that the diagonal is what AP counts as found, then the remaining ones
    among one another, in order of score. A row adds up to its class's boxes, a column to its
    class's detections without those on a crowd.
    """
    problem = problem.above(score)
    pairs = overlaps(problem, IOU[0], across=True)
    own = problem.label[pairs.detection] == problem.box_label[pairs.box]
    taken = assign(problem, pairs.where(own), IOU)[0]
    on_crowd = np.append(problem.crowd, False)[taken]
    rest = np.flatnonzero(taken < 0)
    rest = rest[np.lexsort((-problem.score[rest], problem.image[rest]))]
    free = ~problem.crowd
    free[taken[taken >= 0]] = False
    left = np.flatnonzero(free)
    blind = replace(  # the remaining ones, without classes
        problem,
        detections=problem.detections[rest],
        image=problem.image[rest],
        label=np.zeros(len(rest), np.int64),
        score=problem.score[rest],
        boxes=problem.boxes[left],
        box_image=problem.box_image[left],
        box_label=np.zeros(len(left), np.int64),
        area=problem.area[left],
        crowd=problem.crowd[left],
    )
    second = assign(blind, overlaps(blind, IOU[0]), IOU)[0]
    taken[rest[second >= 0]] = left[second[second >= 0]]
    background = len(problem.class_ids)
    truth = np.append(problem.box_label, background)[taken]
    matrix = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(matrix, (truth[~on_crowd], problem.label[~on_crowd]), 1)
    lost = ~problem.crowd
    lost[taken[taken >= 0]] = False
    np.add.at(matrix, (problem.box_label[lost], background), 1)
    return matrix


@dataclass(frozen=True)
class LRP:
    """Localisation recall precision, lower is better, all in [0, 1].

    olrp: the error at the best threshold, 1 where nothing is found. localisation: mean 1 - IoU of
    what is found there; false_positive: 1 - precision; false_negative: 1 - recall; None where
    undefined. threshold: the score there, None if there is no optimum.
    """

    olrp: float
    localisation: float | None
    false_positive: float | None
    false_negative: float
    threshold: float | None


def lrp(problem: Problem) -> list[LRP | None]:
    """Optimal LRP of each class, at IoU threshold tau = 0.5; None for a class without boxes.

    LRP(s) = (sum over TP of (1 - IoU) / (1 - tau) + FP + FN) / (TP + FP + FN), from the detections
    of score >= s; oLRP is its minimum over s. Oksuz et al., One Metric to Measure them All, TPAMI
    2021, arXiv 2011.10772, equations 3 and 8. Their code evaluates 101 values of s, we every score.
    """
    taken = assign(problem, overlaps(problem, IOU[0]), IOU)[0]
    on_crowd = np.append(problem.crowd, False)[taken]
    distance = np.where(taken >= 0, 1 - taken_iou(problem, taken), 0.0)
    boxes = problem.count(~problem.crowd).sum(axis=1)
    found: list[LRP | None] = []
    for k, positives in enumerate(boxes):
        if not positives:
            found.append(None)
            continue
        mine = np.flatnonzero((problem.label == k) & ~on_crowd)
        mine = mine[np.argsort(-problem.score[mine], kind="stable")]
        hit = taken[mine] >= 0
        tp, fp = hit.cumsum(), (~hit).cumsum()
        loss = distance[mine].cumsum()
        total = (loss / (1 - IOU[0]) + fp + positives - tp) / (positives + fp)
        whole = np.diff(problem.score[mine], append=-np.inf) != 0  # equal scores come together
        total = np.where(whole, total, np.inf)
        if not len(mine) or total.min() >= 1:
            found.append(LRP(1.0, None, None, 1.0, None))
            continue
        at = int(total.argmin())
        found.append(
            LRP(
                float(total[at]),
                float(loss[at] / tp[at]) if tp[at] else None,
                float(fp[at] / (at + 1)),
                float(1 - tp[at] / positives),
                float(problem.score[mine[at]]),
            )
        )
    return found


def mean_lrp(of_classes: list[LRP | None]) -> float | None:
    """The mean oLRP over the classes that have boxes; None if none has."""
    known = [of.olrp for of in of_classes if of is not None]
    return float(np.mean(known)) if known else None
