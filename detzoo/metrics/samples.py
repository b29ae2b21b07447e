"""A statistic on resamples of a test set: how they are drawn, its interval, its p.

Few images: a resample contains only images of the test set, so the bootstrap's intervals are too
narrow, the more so the fewer there are, and of width 0 for a single one. `Samples` therefore knows
its units, the images that have a box to find (copies of one count once, and groups of images as
one), and has three corrections, all of which vanish as units grow; see `Samples.interval` and
`Samples.p_value`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

METHOD = "percentile bootstrap over {units}, {n} resamples"
FEWEST = 6  # units from which a two-sided sign test can reach 5%: 2^(1 - 5) is 0.0625
LEAST_P = 1e-9  # smaller ones would reflect the normal distribution rather than the data


@dataclass(frozen=True)
class Samples:
    """A statistic on the whole set and on resamples of it.

    estimate: (...); samples: (S, ...) float64, NaN where it is undefined for a set. `interval` and
    `p_value` need a single number, not several. units: the number of images that it rests on; None
    if unknown: then there is no correction for few. limits: its range. differing: for a difference,
    the number of units that it comes from; None if unknown.
    """

    estimate: np.ndarray
    samples: np.ndarray
    units: int | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)
    differing: int | None = None

    @classmethod
    def from_values(cls, values: np.ndarray, units: int | None = None) -> Samples:
        """From numbers in [0, 1]. values: (1 + S, ...), computed on the sets of `draw_sets`."""
        return cls(values[0], values[1:], units, (0.0, 1.0))

    def __getitem__(self, index: Any) -> Samples:
        """The Samples of some of the numbers: index applies to the axes behind the first."""
        index = index if isinstance(index, tuple) else (index,)
        some = self.samples[(slice(None), *index)]
        return replace(self, estimate=self.estimate[index], samples=some)

    def __sub__(self, other: Samples) -> Samples:
        """The difference on the same sets, for a paired test."""
        known = [of.units for of in (self, other) if of.units is not None]
        low, high = self.limits[0] - other.limits[1], self.limits[1] - other.limits[0]
        return Samples(
            self.estimate - other.estimate,
            self.samples - other.samples,
            min(known, default=None),
            (low, high),
        )

    def interval(self, level: float = 0.95) -> list[float] | None:
        """[low, high], which contains `level` of the samples; None without a finite sample.

        Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. BCa was tried as
        well and covered the truth of simulated detectors no better (93.9% of the time where these
        did 93.8%, at 100 images): its correction is small compared with its own noise. With few
        units the samples are spread by `_widening`. Below FEWEST units, or differing ones, and
        where all samples agree, the interval reaches at least as far as `_unseen`; with one unit it
        is all of `limits`.
        """
        samples = self._finite()
        if samples is None:
            return None
        tails = [(1 - level) / 2, (1 + level) / 2]
        # The (S + 1) q-th of the S samples: numpy's default is narrower, the more so the fewer.
        found = np.quantile(samples, tails, method="weibull").clip(*self.limits)
        low, high = (float(q) for q in found)
        few = self._telling is not None and self._telling < FEWEST
        if self.units is not None and (few or high - low < 1e-12):
            least, most = self._unseen(level)
            low, high = min(low, max(least, self.limits[0])), max(high, min(most, self.limits[1]))
        return [low, high]

    def p_value(self) -> float | None:
        """Two-sided, for a value of 0: 1 - the level from which the interval contains 0.

        S samples cannot show a p below 2 / (S + 1), which Holm's correction for the 36 pairs of
        nine detectors makes 0.07 of 1,000. If all samples are on one side of 0, the tail of a
        normal distribution with their standard deviation replaces it, if that is smaller.

        It is never below 2^(1 - n) of n units: without a difference, each image would favour either
        side with probability 1/2, and all n agree that often (Good, Permutation Tests (2000),
        section 3). Images without a difference do not count: n is the number of `differing` ones.
        So with fewer than FEWEST of them nothing is significant at 5%.
        """
        samples = self._finite()
        if samples is None:
            return None
        n = self._telling
        floor = LEAST_P if n is None else max(LEAST_P, 2.0 ** (1 - max(n, 1)))
        zero = np.isclose(samples, 0, rtol=0, atol=1e-12)
        below, above = (((samples * sign > 0) & ~zero).sum() for sign in (-1, 1))
        least = min(below, above) + zero.sum() / 2
        # The whole set is one of the S + 1 that count, so that no p is 0.
        p = min(1.0, float(2 * (least + 1) / (len(samples) + 1)))
        if not least and (deviation := float(samples.std())) >= 1e-12:
            p = min(p, math.erfc(abs(float(self.estimate)) / deviation / math.sqrt(2)))
        return max(p, floor)

    @property
    def _telling(self) -> int | None:
        """The number of units that can be evidence of a difference."""
        known = [n for n in (self.units, self.differing) if n is not None]
        return min(known, default=None)

    def _finite(self) -> np.ndarray | None:
        """The samples that are numbers, (s,), spread for few units."""
        finite = self.samples[np.isfinite(self.samples)]
        if not len(finite) or not np.isfinite(self.estimate):
            return None
        return self.estimate + (finite - self.estimate) * _widening(self.units)

    def _unseen(self, level: float) -> tuple[float, float]:
        """The bound of what the units cannot exclude: a share of all images with another value.

        A kind of image that n draws all miss with probability (1 - level) / 2 may be as frequent as
        q = 1 - ((1 - level) / 2)^(1/n), the exact binomial bound (Clopper & Pearson, Biometrika 26
        (1934)). There a number in [0, 1] may be 0 or 1, and a difference the other way round, which
        turns its sign below FEWEST units, as the test has it.
        """
        units = self._telling or self.units  # if nothing differs, all count
        if units <= 1:
            return self.limits
        unseen = 1 - ((1 - level) / 2) ** (1 / units)
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


def units_of(positives: np.ndarray, group: np.ndarray | None = None) -> int:
    """The number of images, or groups of images, that have a box to find.

    positives: (K, I) or, of one class, (I,). group: (I,) int64, the group of each image.
    """
    found = (np.atleast_2d(positives) > 0).any(axis=0)
    return int(found.sum()) if group is None else len(np.unique(group[found]))


def draw_sets(images: int, n: int, seed: int = 0, group: np.ndarray | None = None) -> np.ndarray:
    """(1 + S = n, I) int32: how often each image is in the whole set and in each resample.

    group: (I,) int64 in [0, G), the group of each image: then G whole groups are drawn, so that a
    resample of groups of unequal size has more or fewer images. The same for any detector.
    """
    if n < 1:
        raise ValueError(f"n is {n}; a bootstrap needs at least one resample")
    generator = np.random.default_rng(seed)
    units = images if group is None else int(group.max(initial=-1)) + 1
    drawn = [np.bincount(generator.integers(units, size=units), minlength=units) for _ in range(n)]
    sets = np.stack([np.ones(units, np.int32), *drawn]).astype(np.int32)
    return sets if group is None else sets[:, group]


def method(n: int, group: np.ndarray | None = None, *, seeds: bool = False) -> str:
    """METHOD in words. n: resamples; group: each image's; seeds: whether runs are resampled too."""
    units = "images" if group is None else f"{len(np.unique(group))} groups of images"
    return METHOD.format(n=n, units=f"{units} and seeds" if seeds else units)
