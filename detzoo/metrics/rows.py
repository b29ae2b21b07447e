"""The curve of one class, for many sets of images at once: weighted rows of the match table.

Only a hit can raise recall, and precision falls between hits, so a curve needs its values only at
the hits; and an image drawn m times is one row of weight m, since the last of its m copies has the
highest precision.

Letters: N detections, T IoU thresholds, I images, S sets, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Rows:
    """The R detections of one class down to its last hit, ready for weighting.

    source: (R,) the index of a row's weight among an image's count (c < 0) and its "is drawn more
    than c times" for c = 0, 1, ... hits: T arrays of row numbers; passed: T arrays of the rows that
    are neither hit nor miss; passed_before: how many of them are before each hit.
    """

    source: np.ndarray
    copies: int
    hits: tuple[np.ndarray, ...]
    passed: tuple[np.ndarray, ...]
    passed_before: tuple[np.ndarray, ...]

    @classmethod
    def from_matches(
        cls,
        image: np.ndarray,
        score: np.ndarray,
        hit: np.ndarray,
        miss: np.ndarray,
        images: int,
        most: int,
    ) -> Rows:
        """From one class's part of the match table. most: how often an image is drawn at most."""
        copies, source = 0, image.astype(np.int64)
        mixed = _mixed(image, score, hit, miss)
        if mixed.any() and most > 1:
            # Detections a, b of one image share a score: COCO ranks its copies one after the other
            # (a b a b), not the detections (a a b b), so every copy gets separate rows.
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
