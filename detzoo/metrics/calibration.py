"""Whether a score of 0.7 means 0.7: calibration errors and the bins of reliability plots.

Detections on a crowd are left out. Both errors weight all detections equally, so that a thousand of
score 0.01 hide a bad 0.9: pass a Problem `above` the score from which detections are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detzoo.metrics.matching import Problem, assign, overlaps, taken_iou

BINS = 25


@dataclass(frozen=True)
class Reliability:
    """For each of B equal bins of the score in [0, 1]: count (B,) int64; confidence (B,) float64,
    the mean score; achieved (B,), what the score promises: precision or IoU. NaN in an empty bin.
    error: the mean |confidence - achieved| weighted by count; None without a detection.
    """

    count: np.ndarray
    confidence: np.ndarray
    achieved: np.ndarray
    error: float | None


def reliability(score: np.ndarray, achieved: np.ndarray, bins: int = BINS) -> Reliability:
    """Bins of (N,) scores in [0, 1] and of what each detection achieved; 1 is in the last bin."""
    place = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    of = np.where(count, count, np.nan)
    confidence = np.bincount(place, score, bins) / of
    reached = np.bincount(place, achieved, bins) / of
    if not len(score):
        return Reliability(count, confidence, reached, None)
    error = np.nansum(np.abs(confidence - reached) * count) / len(score)
    return Reliability(count, confidence, reached, float(error))


def d_ece(problem: Problem, *, bins: int = BINS) -> Reliability:
    """Detection expected calibration error: the score against precision, all classes together.

    D-ECE = sum over bins of |D_b| / |D| * |mean score - precision|, where a detection is right if
    COCO's matching gives it a box at IoU 0.5. Küppers et al., Multivariate Confidence Calibration
    for Object Detection, CVPRW 2020, arXiv 2004.13546, equation 5 (of the score alone).
    """
    taken, counted = _taken(problem, 0.5)
    return reliability(problem.score[counted], (taken >= 0)[counted].astype(float), bins)


@dataclass(frozen=True)
class LocalisationCalibration:
    """error: LaECE0, None if no class has both boxes and detections. per_class: K Reliability, None
    for a class without boxes; pooled: of those classes together, for one plot.
    """

    error: float | None
    per_class: list[Reliability | None]
    pooled: Reliability


def laece0(problem: Problem, *, bins: int = BINS) -> LocalisationCalibration:
    """Localisation-aware calibration error at threshold 0: the score against the IoU, by class.

    LaECE0 = mean over classes of sum over bins of |D_b| / |D| * |mean score - mean IoU|. The box is
    that of COCO's matching at any IoU > 0; without one the IoU is 0. Kuzucu et al., On Calibration
    of Object Detectors, ECCV 2024, arXiv 2405.20459, section 4, after Oksuz et al., CVPR 2023,
    arXiv 2307.00934.
    """
    taken, counted = _taken(problem, np.finfo(float).tiny)
    iou = taken_iou(problem, taken)
    has_boxes = problem.count(~problem.crowd).sum(axis=1) > 0
    per_class: list[Reliability | None] = []
    for k, known in enumerate(has_boxes):
        mine = counted & (problem.label == k)
        per_class.append(reliability(problem.score[mine], iou[mine], bins) if known else None)
    errors = [of.error for of in per_class if of is not None and of.error is not None]
    known = counted & has_boxes[problem.label]
    return LocalisationCalibration(
        float(np.mean(errors)) if errors else None,
        per_class,
        reliability(problem.score[known], iou[known], bins),
    )


def _taken(problem: Problem, least: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the box of each detection, -1 for none, and (N,) bool whether it is not on a crowd."""
    taken = assign(problem, overlaps(problem, least), np.array([least]))[0]
    return taken, ~np.append(problem.crowd, False)[taken]
