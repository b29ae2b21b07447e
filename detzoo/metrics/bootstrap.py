"""How sure an average precision is: the bootstrap over images, exact to the metric.

A resample draws as many images as there are, with replacement, and is scored as COCO scores a set
in which an image that was drawn m times stands m times. Where images come in groups (the frames of
a video), whole groups are drawn, as many as there are: frames of one video say hardly more than one
of them, and drawn one by one they would pass for independent. Matching detections to boxes happens
within an image, so it is done once; a resample only weighs the rows of the match table.

What makes it quick: only a hit can raise recall, and precision falls between hits, so that a curve
needs its values at the hits alone; and an image drawn m times is one row of weight m, since of its
m copies the last has the highest precision.

Letters: I images, K classes, T IoU thresholds, N detections, S resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from detzoo.metrics.coco import IOU_THRESHOLDS
from detzoo.metrics.matching import SIZES, Problem, arrays, assign, group_numbers, overlaps
from detzoo.metrics.samples import Samples, draw_sets, method, units_of

NAMES = ("AP", "AP50", "AP75", "AR100", "APs", "APm", "APl")
RECALLS = np.linspace(0, 1, 101)
_CELLS = 1 << 20  # rows times resamples at once: what a processor's cache holds


@dataclass(frozen=True)
class Matches:
    """What became of every detection.

    label, image: (N,) int64; score: (N,) float64; ordered by class, then falling score, then image.
    hit, miss: (T, N) bool; what lies on an ignored box is neither. positives: (K, I) int64, the
    boxes to find. group: (I,) int64, the group of each image, None where images stand alone.
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
    """Two (S, K, T) float64: average precision and recall of the sets in which image i stands
    counts[s, i] times. NaN where such a set has no box of the class.

    counts: (S, I) of whole numbers >= 0. progress: a bar on a terminal.
    """
    counts = np.ascontiguousarray(counts, np.int32)
    classes, thresholds = len(matches.positives), len(matches.hit)
    precision = np.full((len(counts), classes, thresholds), np.nan)
    recall = precision.copy()
    positives = counts @ matches.positives.T  # (S, K)
    edges = matches.label.searchsorted(np.arange(classes + 1))
    shown = tqdm(range(classes), "bootstrap", leave=False, disable=None if progress else True)
    for k in shown:
        rows = _Rows.of(matches, slice(edges[k], edges[k + 1]), int(counts.max(initial=0)))
        step = max(1, min(256, _CELLS // (1 + len(rows.source))))
        for begin in range(0, len(counts), step):
            part = slice(begin, begin + step)
            ap, found = rows.score(counts[part], positives[part, k])
            known = positives[part, k] > 0
            precision[part, k][known] = ap[known]
            recall[part, k][known] = found[known]
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

    `samples.method` says how. The same seed draws the same images for any detector.
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
    """What metrics.json says of it: intervals, interval_method and, of images in groups, groups.

    groups: how many groups and images have a box to find, and `widening`, how many times as wide
    AP's interval is as if the images were independent; None where there is no interval.
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
    """By what the 95% interval of AP by groups is wider than the one by images."""
    alone = replace(matches, group=None)
    by_images = Samples.of(average_precision(alone, alone.sets(n))[:, 0], alone.units).interval()
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
        found[f"AP{letter}"] = Samples.of(over_classes(precision).mean(1), units)
        if size == "all":
            for name, values in zip(("AP50", "AP75"), means(precision).T[1:], strict=True):
                found[name] = Samples.of(values, units)
            found["AR100"] = Samples.of(over_classes(recall).mean(1), units)
    return {name: found[name] for name in NAMES}


@dataclass(frozen=True)
class _Rows:
    """The detections of one class down to its last hit, R of them, ready to be weighed.

    source: (R,) where the weight of a row stands among an image's count (c < 0) and its "is drawn
    more than c times" for c = 0, 1, ... hits: T arrays of row numbers; passed: T arrays of the
    rows that are neither hit nor miss; passed_before: how many of them lie before each hit.
    """

    source: np.ndarray
    copies: int
    hits: tuple[np.ndarray, ...]
    passed: tuple[np.ndarray, ...]
    passed_before: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, matches: Matches, part: slice, most: int) -> _Rows:
        """most: how often an image is drawn at most."""
        image, score = matches.image[part], matches.score[part]
        hit, miss = matches.hit[:, part], matches.miss[:, part]
        copies, images = 0, matches.images
        source = image.astype(np.int64)
        mixed = _mixed(image, score, hit, miss)
        if mixed.any() and most > 1:
            # Detections a, b of one image share a score: COCO ranks its copies one after the other
            # (a b a b), not the detections (a a b b), so that every copy gets rows of its own.
            copies = most
            each = np.where(mixed, copies, 1)
            row = np.repeat(np.arange(len(image)), each)
            copy = np.arange(len(row)) - np.repeat(each.cumsum() - each, each)
            new = np.diff(score, prepend=np.nan) != 0
            new |= np.diff(image, prepend=-1) != 0
            row, copy = (a[np.lexsort((copy, new.cumsum()[row]))] for a in (row, copy))
            source = image[row] + np.where(mixed[row], (1 + copy) * images, 0)
            hit, miss = hit[:, row], miss[:, row]
        end = np.flatnonzero(hit.any(axis=0)).max(initial=-1) + 1
        hits = tuple(np.flatnonzero(row) for row in hit[:, :end])
        passed = tuple(np.flatnonzero(row) for row in ~(hit | miss)[:, :end])
        before = tuple(p.searchsorted(h) for p, h in zip(passed, hits, strict=True))
        return cls(source[:end], copies, hits, passed, before)

    def score(self, counts: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(S, T) average precision and (S, T) recall. counts: (S, I) int32; positives: (S,)."""
        sets = len(counts)
        drawn = [counts > copy for copy in range(self.copies)]
        weights = np.concatenate([counts, *drawn], axis=1) if drawn else counts
        weight = weights.take(self.source, axis=1)  # (S, R)
        seen = weight.cumsum(axis=1, dtype=np.int32)
        positives = np.maximum(positives, 1)[:, None]
        # The fewest hits whose recall, as a float, reaches each of the 101: (S, 101)
        wanted = (np.arange(101) * positives + 99) // 100
        wanted += wanted / positives < RECALLS
        # All sets in one sorted row: each begins above where the one before it can end.
        offset = np.arange(sets)[:, None] * (positives.max() + 2)
        wanted = (wanted + offset).astype(np.int32).ravel()
        precision = np.zeros((sets, len(self.hits)))
        recall = np.zeros((sets, len(self.hits)))
        for t, rows in enumerate(self.hits):
            if not len(rows):
                continue
            hits = weight.take(rows, axis=1).cumsum(axis=1, dtype=np.int32)
            ranked = seen.take(rows, axis=1)
            if len(self.passed[t]):
                passed = weight.take(self.passed[t], axis=1).cumsum(axis=1, dtype=np.int32)
                passed = np.concatenate([np.zeros((sets, 1), np.int32), passed], axis=1)
                ranked -= passed.take(self.passed_before[t], axis=1)
            curve = np.zeros((sets, len(rows) + 1))  # recalls never reached count as 0
            np.divide(hits, np.maximum(ranked, 1), out=curve[:, :-1])
            envelope = np.maximum.accumulate(curve[:, ::-1], axis=1)[:, ::-1]
            place = (hits + offset.astype(np.int32)).ravel().searchsorted(wanted)
            place = place.reshape(sets, 101) - np.arange(sets)[:, None] * len(rows)
            precision[:, t] = np.take_along_axis(envelope, place, axis=1).mean(axis=1)
            recall[:, t] = hits[:, -1] / positives[:, 0]
        return precision, recall


def _mixed(image: np.ndarray, score: np.ndarray, hit: np.ndarray, miss: np.ndarray) -> np.ndarray:
    """(N,) bool: whether it shares image and score with one of another fate."""
    tied = (np.diff(score) == 0) & (np.diff(image) == 0)  # with the next
    if not tied.any():
        return np.zeros(len(image), bool)
    group = np.append(0, (~tied).cumsum())
    other = tied & ((hit[:, 1:] != hit[:, :-1]) | (miss[:, 1:] != miss[:, :-1])).any(axis=0)
    return np.isin(group, group[1:][other])
