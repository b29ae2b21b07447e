"""Which detectors can be told apart: paired tests on the same images.

The bootstrap draws the same images, or groups of images, for both detectors and looks at the
difference of their AP; what makes an image hard for both cancels. Where a detector was trained
several times, its seeds are drawn as well, so that a verdict is about the method and not about one
lucky training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from detzoo.metrics.bootstrap import (
    Matches,
    average_precision,
    means,
    precision_and_recall,
)
from detzoo.metrics.samples import Samples


@dataclass(frozen=True)
class Pair:
    """AP of `first` less that of `second`, [0, 1].

    low, high: of the 95% interval. p: two-sided, of the bootstrap; p_holm: corrected for the number
    of pairs; p_flip: of the sign-flip test, images alone, None where it was not made. All but the
    names are None where there is no AP.
    """

    first: str
    second: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    p_flip: float | None = None


def compare_all(
    detectors: Mapping[str, Sequence[Matches]], *, n: int = 1000, flips: int = 0, seed: int = 0
) -> list[Pair]:
    """Every pair of `detectors` (name -> the match tables of its seeds) on the same images.

    n: resamples; flips: of the sign-flip test, 0 for none. ValueError if the images differ.
    """
    sizes = {name: {table.images for table in tables} for name, tables in detectors.items()}
    if len(set().union(*sizes.values())) > 1:
        raise ValueError(f"the detectors were not scored on the same images: {sizes}")
    sampled = {
        name: sample(tables, n=n, seed=seed, seeds_seed=number)
        for number, (name, tables) in enumerate(detectors.items())
    }
    flipped = {
        (first, second): sign_flip(detectors[first], detectors[second], n=flips)
        for first, second in (combinations(detectors, 2) if flips else ())
    }
    return pairs_of({name: of[0] for name, of in sampled.items()}, flipped)


def pairs_of(
    sampled: Mapping[str, Samples],
    flipped: Mapping[tuple[str, str], float | None] | None = None,
) -> list[Pair]:
    """Every pair of `sampled`: the AP of each detector, on the same sets. flipped: their p_flip."""
    found = []
    for first, second in combinations(sampled, 2):
        difference = sampled[first] - sampled[second]
        bounds = difference.interval() or (None, None)
        value = float(difference.estimate) if np.isfinite(difference.estimate) else None
        p_flip = (flipped or {}).get((first, second))
        found.append((first, second, value, *bounds, difference.p_value(), p_flip))
    corrected = holm([row[5] for row in found])
    return [Pair(*row[:6], c, row[6]) for row, c in zip(found, corrected, strict=True)]


def sample(
    tables: Sequence[Matches], *, n: int = 1000, seed: int = 0, seeds_seed: int = 0
) -> Samples:
    """AP, AP50, AP75 of one detector, the mean of its seeds: estimate (3,), samples (n, 3).

    The same `seed` draws the same images for every detector; `seeds_seed` should differ.
    """
    sets = tables[0].sets(n, seed)
    values = [means(precision_and_recall(table, sets)[0]) for table in tables]
    return over_seeds([Samples.of(v, tables[0].units) for v in values], seed=seeds_seed)


def over_seeds(runs: Sequence[Samples], *, seed: int = 0) -> Samples:
    """The mean over a detector's R runs, with R - 1 of them drawn with replacement each time.

    R - 1 and not R, since drawing R would show only (R - 1) / R of the variance between runs:
    Rao & Wu, Resampling inference with complex survey data, JASA 83 (1988).
    """
    if len(runs) == 1:
        return runs[0]
    stacked = np.stack([run.samples for run in runs])  # (R, S, ...)
    of_runs = np.random.default_rng([seed, len(runs)])
    which = of_runs.integers(len(runs), size=(len(runs) - 1, stacked.shape[1]))
    return replace(
        runs[0],
        estimate=np.mean([run.estimate for run in runs], axis=0),
        samples=stacked[which, np.arange(stacked.shape[1])].mean(axis=0),
    )


def sign_flip(
    first: Sequence[Matches], second: Sequence[Matches], *, n: int = 1000, seed: int = 0
) -> float | None:
    """Two-sided p of the permutation test: were the results swapped image by image, for each image
    by the toss of a coin, how often would the difference in AP be as large as it is? Of images in
    groups, each group is swapped as a whole.

    It takes the trained detectors as they are; several seeds are swapped together, one by one, and
    must be as many on both sides (None otherwise). Good, Permutation Tests (2000), section 3. n:
    swaps that are drawn; of so few that there are no more in all, each is tried once.

    What is swapped has its rank in its class for a score (see `_ranked`): of YOLO and Fast R-CNN,
    whose scores are of different scales, swaps of the scores themselves differed in AP by 0.018
    (standard deviation) where the bootstrap's differences did by 0.010, since one's boxes went
    below the other's whatever they were worth; the ranks' did by 0.011, and p is the bootstrap's.
    """
    if len(first) != len(second):
        return None
    group = np.arange(first[0].images) if first[0].group is None else first[0].group
    units = len(np.unique(group))
    every = units < 63 and 2**units <= max(n, 64)  # few enough to try all swaps, not a sample
    if every:
        swap = (np.arange(1, 2**units)[:, None] >> np.arange(units)) % 2 == 1
    else:
        swap = np.random.default_rng(seed).integers(0, 2, (n, units)) == 0
    swap = swap[:, group]
    differences = _swapped(first, second, swap)
    if not np.isfinite(differences[0]):
        return None
    as_large = np.abs(differences[1:]) >= abs(differences[0]) - 1e-12
    p = float((1 + as_large.sum()) / (1 + len(as_large)))
    return max(p, 2.0 ** (1 - units))  # a sample of all swaps may miss those that are as large


def swings(first: Sequence[Matches], second: Sequence[Matches]) -> np.ndarray:
    """(I,) float64: how much of the difference in AP comes from each image, NaN without an AP.

    Half of what the difference loses when the two swap their results on that image alone; 0 where
    they found the same. AP is no mean over images, so that these add up to the difference only
    nearly. Seeds are swapped in pairs, those of the side that has fewer more than once.
    """
    differences = _swapped(first, second, np.eye(first[0].images, dtype=bool))
    return (differences[0] - differences[1:]) / 2


def _swapped(first: Sequence[Matches], second: Sequence[Matches], swap: np.ndarray) -> np.ndarray:
    """(1 + S,) difference in AP, as it is and with the images `swap` (S, I) bool swapped."""
    images = first[0].images
    kept = np.concatenate([np.ones((1, images), bool), ~swap])
    sets = np.concatenate([kept, ~kept], axis=1)  # (1 + S, 2 I)
    pairs = max(len(first), len(second))
    first, second = ([_ranked(table) for table in side] for side in (first, second))
    both = [_side_by_side(first[i % len(first)], second[i % len(second)]) for i in range(pairs)]
    ap = [
        [average_precision(table, s)[:, 0] for table in both] for s in (sets, ~sets)
    ]  # [side][pair] (1 + S,)
    return np.mean(ap[0], axis=0) - np.mean(ap[1], axis=0)


def _ranked(table: Matches) -> Matches:
    """The same with each score replaced by less its rank in the class: how many have a higher one.

    No AP changes by it, and of two detectors it makes scores that may stand in one ranking.
    """
    score = np.empty(len(table.score))
    edges = table.label.searchsorted(np.arange(len(table.positives) + 1))
    for begin, end in pairwise(edges):  # of falling score
        mine = -table.score[begin:end]
        score[begin:end] = -mine.searchsorted(mine).astype(float)
    return replace(table, score=score)


def _side_by_side(first: Matches, second: Matches) -> Matches:
    """Both tables as one of 2 I images, the first's before the second's."""
    images = first.images
    label, image, score = (
        np.concatenate([getattr(first, key), getattr(second, key)])
        for key in ("label", "image", "score")
    )
    order = np.lexsort((image, -score, label))  # stable: of one image, the order that it had
    image = image + images * np.repeat([0, 1], [len(first.label), len(second.label)])
    return Matches(
        label[order],
        image[order],
        score[order],
        np.concatenate([first.hit, second.hit], axis=1)[:, order],
        np.concatenate([first.miss, second.miss], axis=1)[:, order],
        np.concatenate([first.positives, second.positives], axis=1),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected for their number, step by step: Holm, Scand. J. Statistics 6 (1979).

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than the one before it and no
    larger than 1. None stays None and is not counted.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = corrected[place] = min(1.0, max(least, (len(known) - rank) * p))
    return corrected


def ranks(
    names: Sequence[str], pairs: Sequence[Pair], *, alpha: float = 0.05
) -> dict[str, tuple[int, int]]:
    """name -> (best, worst) rank that the corrected tests allow; 1 is the best of all.

    (2, 4): one detector is better beyond doubt, and all but three others may be; who cannot be
    compared may take any rank.
    """
    better = dict.fromkeys(names, 0)
    worse = dict.fromkeys(names, 0)
    for pair in pairs:
        if pair.p_holm is not None and pair.p_holm < alpha and pair.difference:
            winner, loser = pair.first, pair.second
            if pair.difference < 0:
                winner, loser = loser, winner
            better[loser] += 1
            worse[winner] += 1
    return {name: (1 + better[name], len(names) - worse[name]) for name in names}
