"""Confidence intervals of average precision: the bootstrap over images, exact to the metric.

A resample draws as many images as there are, with replacement, and is scored as COCO scores a set
that contains an image drawn m times m times. If images are grouped (the frames of a video), whole
groups are drawn, as many as there are: frames of one video are not independent. Matching detections
to boxes happens within an image, so it is done once; a resample only weights the rows of the match
table.

Letters: I images, K classes, T IoU thresholds, N detections, S resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detzoo.metrics.coco import IOU_THRESHOLDS
from detzoo.metrics.matching import SIZES, Problem, arrays, assign, group_numbers, overlaps
from detzoo.metrics.rows import RECALLS as RECALLS
from detzoo.metrics.rows import Rows
from detzoo.metrics.samples import Samples, draw_sets, method, units_of
from detzoo.progress import track

NAMES = ("AP", "AP50", "AP75", "AR100", "APs", "APm", "APl")
_CELLS = 1 << 20  # rows times resamples at once: fits into a processor's cache


@dataclass(frozen=True)
class Matches:
    """The match table: which detection found a box, which did not.

    label, image: (N,) int64; score: (N,) float64; ordered by class, then falling score, then image.
    hit, miss: (T, N) bool; a detection on an ignored box is neither. positives: (K, I) int64, the
    boxes to find. group: (I,) int64, the group of each image, None if images are not grouped.
    """

    label: np.ndarray
    image: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    positives: np.ndarray
    group: np.ndarray | None = None

    @property
    def images(self) -> int:
        return self.positives.shape[1]

    @property
    def units(self) -> int:
        """The images, or groups of images, that have a box to find."""
        return units_of(self.positives, self.group)

    def sets(self, n: int, seed: int = 0) -> np.ndarray:
        """(1 + n, I) int32: the whole set and n resamples of its images, or groups of images."""
        return draw_sets(self.images, n, seed, self.group)


def match(
    gt: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, max_dets: int = 100
) -> Matches:
    """The match table of COCO results at COCO's ten thresholds, objects of every size."""
    return match_problem(arrays(gt, results, max_dets=max_dets))


def match_problem(
    problem: Problem, *, thresholds: np.ndarray = IOU_THRESHOLDS, size: str = "all"
) -> Matches:
    """The match table of a Problem; boxes outside `size` (of SIZES) are ignored, as COCO does."""
    low, high = SIZES[size]
    ignored = problem.crowd | (problem.area < low) | (problem.area > high)
    pairs = overlaps(problem, min(thresholds.min(), 1 - 1e-10))
    taken = assign(problem, pairs, thresholds, ignored)
    area = problem.detections[:, 2] * problem.detections[:, 3]
    hit = (taken >= 0) & ~np.append(ignored, True)[taken]
    miss = (taken < 0) & (area >= low) & (area <= high)
    return table(problem, hit, miss, problem.count(~ignored))


def table(
    problem: Problem,
    hit: np.ndarray,
    miss: np.ndarray,
    positives: np.ndarray,
    label: np.ndarray | None = None,
) -> Matches:
    """Matches from the (T, N) fates of a problem's detections. label: (N,), where not its own."""
    label = problem.label if label is None else label
    order = np.lexsort((problem.image, -problem.score, label))
    parts = (label, problem.image, problem.score)
    parts = [a[order] for a in parts]
    return Matches(*parts, hit[:, order], miss[:, order], positives, problem.group)


def precision_and_recall(
    matches: Matches, counts: np.ndarray, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Two (S, K, T) float64: average precision and recall of the sets that contain image i
    counts[s, i] times. NaN where such a set has no box of the class.

    counts: (S, I) of whole numbers >= 0. progress: a bar on a terminal.
    """
    counts = np.ascontiguousarray(counts, np.int32)
    classes, thresholds = len(matches.positives), len(matches.hit)
    precision = np.full((len(counts), classes, thresholds), np.nan)
    recall = precision.copy()
    positives = counts @ matches.positives.T  # (S, K)
    edges = matches.label.searchsorted(np.arange(classes + 1))
    for k in track(range(classes), "bootstrap", "classes", show=progress):
        part = slice(edges[k], edges[k + 1])
        of_class = (matches.image[part], matches.score[part])
        fates = (matches.hit[:, part], matches.miss[:, part])
        rows = Rows.from_matches(*of_class, *fates, matches.images, int(counts.max(initial=0)))
        step = max(1, min(256, _CELLS // (1 + len(rows.source))))
        for begin in range(0, len(counts), step):
            some = slice(begin, begin + step)
            ap, found = rows.score(counts[some], positives[some, k])
            known = positives[some, k] > 0
            precision[some, k][known] = ap[known]
            recall[some, k][known] = found[known]
    return precision, recall


def average_precision(matches: Matches, counts: np.ndarray) -> np.ndarray:
    """(S, 3) float64 AP, AP50, AP75 for counts (S, I), or (3,) for counts (I,).

    The mean over the classes that have a box in the set; NaN where no class has one.
    """
    several = np.atleast_2d(counts)
    averages = means(precision_and_recall(matches, several)[0])
    return averages[0] if np.ndim(counts) == 1 else averages


def means(precision: np.ndarray) -> np.ndarray:
    """(S, 3) AP, AP50, AP75 from (S, K, T = 10): the mean over the classes that are not NaN."""
    per_threshold = over_classes(precision)
    return np.stack([per_threshold.mean(1), per_threshold[:, 0], per_threshold[:, 5]], axis=1)


def over_classes(values: np.ndarray) -> np.ndarray:
    """(S, K, ...) -> (S, ...): the mean over the classes that are not NaN; NaN if all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(known, values, 0).sum(axis=1) / np.where(count, count, np.nan)


def interval(
    gt: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    max_dets: int = 100,
    progress: bool = False,
) -> dict[str, list[float] | None]:
    """{"AP": [low, high], ...} for every one of NAMES; None where no resample has any box.

    `samples.method` describes it. The same seed draws the same images for any detector.
    """
    problem = arrays(gt, results, max_dets=max_dets)
    sets = draw_sets(len(problem.image_ids), n, seed, problem.group)
    sampled = sample_numbers(problem, sets, progress=progress)
    return {name: sampled[name].interval(level) for name in NAMES}


def uncertainty(
    gt: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    n: int = 1000,
    max_dets: int = 100,
    progress: bool = False,
) -> dict[str, Any]:
    """The fields of metrics.json: intervals, interval_method and, for images in groups, groups.

    groups: how many groups and images have a box to find, and `widening`, the ratio of AP's
    interval to that of independent images; None without an interval.
    """
    found = {"intervals": interval(gt, results, n=n, max_dets=max_dets, progress=progress)}
    group = group_numbers(gt["images"])
    found["interval_method"] = method(n, group)
    if group is not None:
        matches = match(gt, results, max_dets=max_dets)
        found["groups"] = {
            "number": matches.units,
            "images": units_of(matches.positives),
            "widening": widening(matches, found["intervals"]["AP"], n),
        }
    return found


def widening(matches: Matches, by_groups: Sequence[float] | None, n: int = 1000) -> float | None:
    """How many times as wide the 95% interval of AP by groups is as the one by images."""
    alone = replace(matches, group=None)
    by_images = Samples.from_values(
        average_precision(alone, alone.sets(n))[:, 0], alone.units
    ).interval()
    if by_groups is None or by_images is None or by_images[1] <= by_images[0]:
        return None
    return (by_groups[1] - by_groups[0]) / (by_images[1] - by_images[0])


def sample_numbers(
    problem: Problem, sets: np.ndarray, *, progress: bool = False
) -> dict[str, Samples]:
    """Every one of NAMES on `sets`, (1 + S, I) as `draw_sets` gives them."""
    found: dict[str, Samples] = {}
    for size, letter in (("all", ""), ("small", "s"), ("medium", "m"), ("large", "l")):
        matches = match_problem(problem, size=size)
        precision, recall = precision_and_recall(matches, sets, progress=progress)
        units = matches.units
        found[f"AP{letter}"] = Samples.from_values(over_classes(precision).mean(1), units)
        if size == "all":
            for name, values in zip(("AP50", "AP75"), means(precision).T[1:], strict=True):
                found[name] = Samples.from_values(values, units)
            found["AR100"] = Samples.from_values(over_classes(recall).mean(1), units)
    return {name: found[name] for name in NAMES}
