"""Paired tests: which detectors differ significantly on the same images.

The bootstrap draws the same images, or groups of images, for both detectors and looks at the
difference of their AP; what makes an image hard for both cancels. Where a detector was trained
several times, its seeds are drawn as well, so that a verdict is about the method and not about one
lucky training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from detzoo.metrics.bootstrap import Matches, means, precision_and_recall
from detzoo.metrics.permutation import differing_pairs, sign_flip
from detzoo.metrics.samples import Samples


@dataclass(frozen=True)
class Pair:
    """AP of `first` minus that of `second`, [0, 1].

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
    alone = {name: of[0] for name, of in sampled.items()}
    return pairs_of(alone, flipped, differing_pairs(detectors))


def pairs_of(
    sampled: Mapping[str, Samples],
    flipped: Mapping[tuple[str, str], float | None] | None = None,
    apart: Mapping[tuple[str, str], int] | None = None,
) -> list[Pair]:
    """Every pair of `sampled`: the AP of each detector, on the same sets.

    flipped: their p_flip. apart: on how many images they differ, from `differing_pairs`.
    """
    found = []
    for first, second in combinations(sampled, 2):
        difference = sampled[first] - sampled[second]
        difference = replace(difference, differing=(apart or {}).get((first, second)))
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
    return over_seeds([Samples.from_values(v, tables[0].units) for v in values], seed=seeds_seed)


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

    (2, 4): one detector is significantly better, and all but three others may be; one that cannot
    be compared may have any rank.
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
