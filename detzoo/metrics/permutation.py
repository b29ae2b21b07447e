"""Two detectors with their results swapped on some images: where their difference comes from, and
how often it would be as large by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np

from detzoo.metrics.bootstrap import Matches, average_precision
from detzoo.metrics.samples import LEAST_P


def sign_flip(
    first: Sequence[Matches], second: Sequence[Matches], *, n: int = 1000, seed: int = 0
) -> float | None:
    """Two-sided p of the permutation test: if the results were swapped at random, image by image,
    how often would the difference in AP be as large as it is? Groups of images are swapped as a
    whole.

    It is conditional on the trained detectors; several seeds are swapped together, one by one, and
    must be equally many on both sides (else None). Good, Permutation Tests (2000), section 3. n:
    random swaps; if there are no more in total, each is tried once.

    The scores are replaced by ranks within the class (see `_ranked`): for YOLO and Fast R-CNN,
    whose scores have different scales, the AP differences under swaps of raw scores had a standard
    deviation of 0.018 against the bootstrap's 0.010, since one's boxes were always ranked below the
    other's; with ranks it is 0.011, and p agrees with the bootstrap's.
    """
    if len(first) != len(second):
        return None
    group = _groups(first[0])
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


def image_contributions(first: Sequence[Matches], second: Sequence[Matches]) -> np.ndarray:
    """(I,) float64: how much of the difference in AP comes from each image, NaN without an AP.

    Half of the change when the two swap their results on that image alone; 0 where the results are
    equal. AP is no mean over images, so these add up to the difference only approximately. Seeds
    are swapped in pairs, those of the side with fewer repeatedly.
    """
    differences = _swapped(first, second, np.eye(first[0].images, dtype=bool))
    return (differences[0] - differences[1:]) / 2


def differing_pairs(detectors: Mapping[str, Sequence[Matches]]) -> dict[tuple[str, str], int]:
    """For every pair of `detectors`, the number of images on which they differ."""
    return {
        pair: count_differing(*(detectors[name] for name in pair))
        for pair in combinations(detectors, 2)
    }


def count_differing(first: Sequence[Matches], second: Sequence[Matches]) -> int:
    """The number of images, or groups of images, that the difference in AP comes from: the trials
    of a sign test.

    If there are too many to limit p, those with different numbers of found objects of a class; else
    those whose swap changes the difference.
    """
    group = _groups(first[0])
    pairs = max(len(first), len(second))
    both = [(first[i % len(first)], second[i % len(second)]) for i in range(pairs)]
    other = np.any([(_hits(a) != _hits(b)).any(axis=(0, 1)) for a, b in both], axis=0)
    if 2.0 ** (1 - (units := len(np.unique(group[other])))) <= LEAST_P:
        return units
    other = np.any([_differing_images(a, b) for a, b in both], axis=0)
    swap = group == np.unique(group[other])[:, None]
    differences = _swapped(first, second, swap)
    return int((np.abs(differences[1:] - differences[0]) > 1e-12).sum())


def _groups(table: Matches) -> np.ndarray:
    """(I,) int64: the group of each image; without groups each image is its own."""
    return np.arange(table.images) if table.group is None else table.group


def _hits(table: Matches) -> np.ndarray:
    """(T, K, I) int64: the objects found, of each class in each image."""
    found = np.zeros((len(table.hit), *table.positives.shape), np.int64)
    threshold, row = np.nonzero(table.hit)
    np.add.at(found, (threshold, table.label[row], table.image[row]), 1)
    return found


def _differing_images(first: Matches, second: Matches) -> np.ndarray:
    """(I,) bool: the images whose rows differ between the two."""
    rows = []
    for table in (first, second):
        fate = np.packbits(np.concatenate([table.hit, table.miss]), axis=0)
        parts = (*fate, -table.score, table.label, table.image)
        order = np.lexsort(parts)
        rows.append(np.stack([part[order].astype(float) for part in parts]))
    counts = [np.bincount(t.image, minlength=t.images) for t in (first, second)]
    unlike = counts[0] != counts[1]
    kept = [of[:, ~unlike[of[-1].astype(int)]] for of in rows]
    unlike[kept[0][-1, (kept[0] != kept[1]).any(axis=0)].astype(int)] = True
    return unlike


def _swapped(first: Sequence[Matches], second: Sequence[Matches], swap: np.ndarray) -> np.ndarray:
    """(1 + S,) difference in AP, unswapped and with the images `swap` (S, I) bool swapped."""
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
    """The same with each score replaced by minus its rank in the class: how many have a higher one.

    This changes no AP, and makes the scores of two detectors comparable.
    """
    score = np.empty(len(table.score))
    edges = table.label.searchsorted(np.arange(len(table.positives) + 1))
    for begin, end in pairwise(edges):  # of falling score
        mine = -table.score[begin:end]
        score[begin:end] = -mine.searchsorted(mine).astype(float)
    return replace(table, score=score)


def _side_by_side(first: Matches, second: Matches) -> Matches:
    """Both tables joined: one of 2 I images, the first's before the second's."""
    images = first.images
    label, image, score = (
        np.concatenate([getattr(first, key), getattr(second, key)])
        for key in ("label", "image", "score")
    )
    order = np.lexsort((image, -score, label))  # stable: keeps the order within an image
    image = image + images * np.repeat([0, 1], [len(first.label), len(second.label)])
    return Matches(
        label[order],
        image[order],
        score[order],
        np.concatenate([first.hit, second.hit], axis=1)[:, order],
        np.concatenate([first.miss, second.miss], axis=1)[:, order],
        np.concatenate([first.positives, second.positives], axis=1),
    )
