"""How sure an average precision is: the bootstrap over images, exact to the metric.

A resample draws as many images as there are, with replacement, and is scored as COCO scores a set
in which an image that was drawn m times stands m times. Matching detections to boxes happens within
an image, so it is done once; a resample only weighs the rows of the match table.

What makes it quick: only a hit can raise recall, and precision falls between hits, so that a curve
needs its values at the hits alone; and an image drawn m times is one row of weight m, since of its
m copies the last has the highest precision.

Few images: a resample shows no image that was not drawn into the test set, so that the bootstrap is
too sure of itself, the more so the fewer they are, and of a single one it is certain. `Samples`
therefore knows its units, the images that have a box to find (copies of one would count once, and
groups of images as one, where data has them), and three things are added, all of which vanish as
units grow; see `Samples.interval` and `Samples.p_value`.

Letters: I images, K classes, T IoU thresholds, N detections, S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from detzoo.metrics.coco import IOU_THRESHOLDS
from detzoo.metrics.matching import SIZES, Problem, arrays, assign, overlaps

METHOD = "percentile bootstrap over images, {n} resamples"
FEWEST = 6  # units from which a two-sided sign test can reach 5%: 2^(1 - 5) is 0.0625
NAMES = ("AP", "AP50", "AP75", "AR100", "APs", "APm", "APl")
RECALLS = np.linspace(0, 1, 101)
LEAST_P = 1e-9  # smaller ones would say more of the normal distribution than of the data
_CELLS = 1 << 20  # rows times resamples at once: what a processor's cache holds


@dataclass(frozen=True)
class Matches:
    """What became of every detection.

    label, image: (N,) int64; score: (N,) float64; ordered by class, then falling score, then image.
    hit, miss: (T, N) bool; what lies on an ignored box is neither. positives: (K, I) int64, the
    boxes to find.
    """

    label: np.ndarray
    image: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    positives: np.ndarray

    @property
    def images(self) -> int:
        return self.positives.shape[1]


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
    return Matches(*(a[order] for a in parts), hit[:, order], miss[:, order], positives)


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


@dataclass(frozen=True)
class Samples:
    """A number on the whole set and on resamples of it.

    estimate: (...); samples: (S, ...) float64, NaN where a set has nothing to say. What is given to
    `interval` and `p_value` is one number, not several. units: the images that it rests on, None
    where that is not known: then nothing is done about few. limits: what it lies between.
    """

    estimate: np.ndarray
    samples: np.ndarray
    units: int | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)

    @classmethod
    def of(cls, values: np.ndarray, units: int | None = None) -> Samples:
        """Of numbers in [0, 1]. values: (1 + S, ...), what the sets of `draw_sets` gave."""
        return cls(values[0], values[1:], units, (0.0, 1.0))

    def __getitem__(self, index: Any) -> Samples:
        """Of some of the numbers: index goes to the axes behind the first."""
        index = index if isinstance(index, tuple) else (index,)
        some = self.samples[(slice(None), *index)]
        return replace(self, estimate=self.estimate[index], samples=some)

    def __sub__(self, other: Samples) -> Samples:
        """The difference on the same sets: what a paired test looks at."""
        known = [of.units for of in (self, other) if of.units is not None]
        low, high = self.limits[0] - other.limits[1], self.limits[1] - other.limits[0]
        return Samples(
            self.estimate - other.estimate,
            self.samples - other.samples,
            min(known, default=None),
            (low, high),
        )

    def interval(self, level: float = 0.95) -> list[float] | None:
        """[low, high], between which `level` of the samples lie; None without a finite sample.

        Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. BCa was tried as
        well and covered the truth of simulated detectors no better (93.9% of the time where these
        did 93.8%, at 100 images): what it corrects is small beside its own noise. Of few units the
        samples are spread as `_widening` says. Below FEWEST units, and where all samples agree, the
        interval reaches at least as far as `_unseen` does; of one unit it is all of `limits`.
        """
        samples = self._finite()
        if samples is None:
            return None
        tails = [(1 - level) / 2, (1 + level) / 2]
        # The (S + 1) q-th of the S samples: numpy's default is narrower, the more so the fewer.
        found = np.quantile(samples, tails, method="weibull").clip(*self.limits)
        low, high = (float(q) for q in found)
        if self.units is not None and (self.units < FEWEST or high - low < 1e-12):
            least, most = self._unseen(level)
            low, high = min(low, max(least, self.limits[0])), max(high, min(most, self.limits[1]))
        return [low, high]

    def p_value(self) -> float | None:
        """Two-sided, that the number is 0: 1 - the level at which the interval begins to hold 0.

        S samples cannot show a p below 2 / (S + 1), which Holm's correction for the 36 pairs of
        nine detectors makes 0.07 of 1,000. Where all lie on one side of 0, the tail of a normal
        distribution with their standard deviation stands in, if it is the smaller one.

        It is never below 2^(1 - units): were there no difference, each image would have favoured
        one side or the other by the toss of a coin, and n coins agree that often (Good, Permutation
        Tests (2000), section 3). So fewer than FEWEST images tell nothing apart at 5%.
        """
        samples = self._finite()
        if samples is None:
            return None
        floor = LEAST_P if self.units is None else max(LEAST_P, 2.0 ** (1 - max(self.units, 1)))
        zero = np.isclose(samples, 0, rtol=0, atol=1e-12)
        below, above = (((samples * sign > 0) & ~zero).sum() for sign in (-1, 1))
        least = min(below, above) + zero.sum() / 2
        # The whole set is one of the S + 1 that count, so that no p is 0.
        p = min(1.0, float(2 * (least + 1) / (len(samples) + 1)))
        if not least and (deviation := float(samples.std())) >= 1e-12:
            p = min(p, math.erfc(abs(float(self.estimate)) / deviation / math.sqrt(2)))
        return max(p, floor)

    def _finite(self) -> np.ndarray | None:
        """The samples that are numbers, (s,), spread for few units."""
        finite = self.samples[np.isfinite(self.samples)]
        if not len(finite) or not np.isfinite(self.estimate):
            return None
        return self.estimate + (finite - self.estimate) * _widening(self.units)

    def _unseen(self, level: float) -> tuple[float, float]:
        """What the units cannot rule out: that in a share of all images the number is otherwise.

        A kind of image that n draws all miss with probability (1 - level) / 2 may be as frequent as
        q = 1 - ((1 - level) / 2)^(1/n), the exact binomial bound (Clopper & Pearson, Biometrika 26
        (1934)). There a number in [0, 1] may be 0 or 1, and a difference the other way round, which
        turns its sign below FEWEST units, as the test has it.
        """
        if self.units <= 1:
            return self.limits
        unseen = 1 - ((1 - level) / 2) ** (1 / self.units)
        value = float(self.estimate)
        if self.limits[0] < 0 and abs(value) > 1e-12:
            return value - 2 * unseen * abs(value), value + 2 * unseen * abs(value)
        low, high = self.limits
        return value + unseen * (low - value), value + unseen * (high - value)


def _widening(units: int | None) -> float:
    """By how much deviations from the estimate are multiplied: the bootstrap's own are those of a
    variance divided by n, not n - 1, and of a normal distribution, not Student's t.

    Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015),
    section 5.3. 1.44 at 6, 1.05 at 40, 1.01 at 200 units. Student's quantile by the expansion of
    Fisher & Cornish, Technometrics 2 (1960), to 1/f^3: 2.570 for 2.571 at f = 5, 7.9 for 12.7 at 1.
    """
    if units is None or units < 2:
        return 1.0
    z, f = 1.959964, units - 1
    terms = (
        (z**2 + 1) / 4,
        (5 * z**4 + 16 * z**2 + 3) / 96,
        (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / 384,
    )
    student = 1 + sum(term / f**power for power, term in enumerate(terms, 1))
    return student * math.sqrt(units / f)


def units_of(positives: np.ndarray) -> int:
    """How many images have a box to find. positives: (K, I) or, of one class, (I,)."""
    return int((np.atleast_2d(positives) > 0).any(axis=0).sum())


def draw_sets(images: int, n: int, seed: int = 0) -> np.ndarray:
    """(1 + S = n, I) int32: how often each image stands in the whole set and in each resample.

    The same for any detector.
    """
    if n < 1:
        raise ValueError(f"n is {n}; a bootstrap needs at least one resample")
    generator = np.random.default_rng(seed)
    drawn = [
        np.bincount(generator.integers(images, size=images), minlength=images) for _ in range(n)
    ]
    return np.stack([np.ones(images, np.int32), *drawn]).astype(np.int32)


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

    METHOD says how. The same seed draws the same images for any detector.
    """
    problem = arrays(gt, results, max_dets=max_dets)
    sampled = sample_numbers(problem, draw_sets(len(problem.image_ids), n, seed), progress=progress)
    return {name: sampled[name].interval(level) for name in NAMES}


def sample_numbers(
    problem: Problem, sets: np.ndarray, *, progress: bool = False
) -> dict[str, Samples]:
    """Every one of NAMES on `sets`, (1 + S, I) as `draw_sets` gives them."""
    found: dict[str, Samples] = {}
    for size, letter in (("all", ""), ("small", "s"), ("medium", "m"), ("large", "l")):
        matches = match_problem(problem, size=size)
        precision, recall = precision_and_recall(matches, sets, progress=progress)
        units = units_of(matches.positives)
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
