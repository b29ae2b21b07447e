"""Kinds of error, and the gain in AP50 without the errors of each kind.

Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020,
arXiv 2008.08115, section 2. With a detection's largest IoU with a box of its own class (`same`)
and with one of another (`other`), foreground f = 0.5 and background b = 0.1, a false alarm is

    localisation     b <= same < f                      mended: it gets the box
    classification   else, other >= f                   mended: it gets the class
    duplicate        else, same >= f (the box is taken)  mended: it goes away
    background       else, both < b                     mended: it goes away
    both             else: b <= other < f               mended: it goes away

A box is missed when nothing found it and no error of the first two kinds points at it; mended, it
need not be found. Of several errors that would find one box the best scored is mended and the
others are removed, as they are when the box is found already. "false positive" removes every false
alarm, "false negative" every box that was not found.

A kind's dAP is the AP50 of the mended set minus AP50; a class without boxes is n/a, and one without
boxes after mending is n/a in the mended set, as in pycocotools. tidecv differs: there a class
without boxes counts as 0 if it was ever predicted, a detection on a crowd can be an error, an IoU
on a limit may be on the worse side, and a dAP below 0 is shown as 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from detzoo.metrics.bootstrap import Matches, over_classes, precision_and_recall, table
from detzoo.metrics.matching import Pairs, Problem, assign, overlaps

FALSE_ALARMS = ("classification", "localisation", "both", "duplicate", "background")
KINDS = (*FALSE_ALARMS, "missed")
SUMS = ("false positive", "false negative")


@dataclass(frozen=True)
class Outcomes:
    """The outcome of every detection and box of a Problem (see its letters).

    hit, ignored: (N,) bool; kind: (N,) int64, an index into FALSE_ALARMS, -1 for none; box: (N,)
    int64, the box that it took or would take if mended, -1 for none; mends: (N,) bool, whether
    mending it finds that box; found, missed: (G,) bool, crowds are neither.
    """

    hit: np.ndarray
    ignored: np.ndarray
    kind: np.ndarray
    box: np.ndarray
    mends: np.ndarray
    found: np.ndarray
    missed: np.ndarray


@dataclass(frozen=True)
class Kind:
    """count: errors of this kind. dap: AP50, [0, 1], to be gained without them; None: no AP."""

    count: int
    dap: float | None


def classify_errors(
    problem: Problem, *, foreground: float = 0.5, background: float = 0.1
) -> Outcomes:
    """Every detection and box by the table above. Both limits are IoUs."""
    pairs = overlaps(problem, min(background, foreground), across=True)
    own = problem.label[pairs.detection] == problem.box_label[pairs.box]
    taken = assign(problem, pairs.where(own), np.array([foreground]))[0]
    objects = ~problem.crowd
    found = np.zeros(len(problem.boxes), bool)
    found[taken[taken >= 0]] = True
    found &= objects
    on_crowd = np.append(problem.crowd, False)[taken]
    hit = (taken >= 0) & ~on_crowd

    single = objects[pairs.box]
    n = len(problem.score)
    same, same_box = _largest(pairs.where(own & single), n)
    other, other_box = _largest(pairs.where(~own & single), n)
    kind = np.select(
        [(background <= same) & (same < foreground), other >= foreground, same >= foreground],
        [1, 0, 3],
        np.where(np.maximum(same, other) < background, 4, 2),
    )
    kind = np.where(taken >= 0, -1, kind)
    box = np.select([kind == 1, kind == 0], [same_box, other_box], np.where(hit, taken, -1))

    aims = np.flatnonzero((kind >= 0) & (box >= 0))
    aims = aims[~found[box[aims]]]
    best = aims[np.lexsort((aims, -problem.score[aims], box[aims]))]
    best = best[np.diff(box[best], prepend=-1) != 0]  # the best scored one of each box
    mends = np.zeros(n, bool)
    mends[best] = True
    missed = objects & ~found
    missed[box[aims]] = False
    return Outcomes(hit, on_crowd, kind, box, mends, found, missed)


def match_without_errors(problem: Problem, of: Outcomes) -> dict[str, Matches]:
    """The match table (T = 1) of the original set (named "") and mended by each of KINDS and SUMS.

    Every mend stays within an image, so these can be resampled as any other table.
    """
    hit, miss = of.hit[None], (of.kind >= 0)[None]
    positives = problem.count(~problem.crowd)
    tables = {"": table(problem, hit, miss, positives)}
    for number, name in enumerate(FALSE_ALARMS):
        mine = of.kind == number
        label = np.where(mine & of.mends, np.append(problem.box_label, 0)[of.box], problem.label)
        tables[name] = table(problem, hit | (mine & of.mends), miss & ~mine, positives, label)
    tables["missed"] = replace(tables[""], positives=positives - problem.count(of.missed))
    tables["false positive"] = replace(tables[""], miss=np.zeros_like(miss))
    tables["false negative"] = replace(tables[""], positives=problem.count(of.found))
    return tables


def errors(
    problem: Problem, *, foreground: float = 0.5, background: float = 0.1
) -> dict[str, Kind]:
    """Count and dAP of each of KINDS and SUMS."""
    of = classify_errors(problem, foreground=foreground, background=background)
    once = np.ones((1, len(problem.image_ids)), np.int64)
    ap = {
        name: float(over_classes(precision_and_recall(matches, once)[0])[0, 0])
        for name, matches in match_without_errors(problem, of).items()
    }
    counts = {name: int((of.kind == i).sum()) for i, name in enumerate(FALSE_ALARMS)}
    counts |= {"missed": int(of.missed.sum()), "false positive": int((of.kind >= 0).sum())}
    counts |= {"false negative": int((~problem.crowd & ~of.found).sum())}
    return {name: Kind(counts[name], _number(ap[name] - ap[""])) for name in (*KINDS, *SUMS)}


def _largest(pairs: Pairs, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the largest IoU of each detection, 0 for none, and its box, -1 for none."""
    iou, box = np.zeros(n), np.full(n, -1)
    order = np.lexsort((-pairs.box, pairs.iou))  # the last one written stays: the first of equals
    iou[pairs.detection[order]] = pairs.iou[order]
    box[pairs.detection[order]] = pairs.box[order]
    return iou, box


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
