"""How many times as fast one detector is as another, over passes that were timed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detzoo.report.load.runs import Run
from detzoo.report.load.values import dig

DRAWS = 1000


@dataclass(frozen=True)
class Ratio:
    """slow / fast, the median over n paired passes, with the 95% interval."""

    value: float
    low: float
    high: float
    n: int


def ratio(slow: Sequence[Run], fast: Sequence[Run], *, seed: int = 0) -> Ratio | None:
    """The ratio of two detectors' times (each given as its runs); None unless one session timed
    all.

    A pair is two passes over one image in one round, so that the machine's state affects both; with
    several seeds a pass is the geometric mean of their times. The interval is by bootstrap over
    rounds, since the passes of a round are not independent.
    """
    sessions = {run.speed.get("session") for run in (*slow, *fast)}
    if len(sessions) != 1 or None in sessions:
        return None
    passes = [[_passes(run) for run in runs] for runs in (slow, fast)]
    every = [of for side in passes for of in side]
    if any(of is None or of[0] != every[0][0] for of in every):
        return None
    times = [np.mean([np.log(of[1]) for of in side], axis=0) for side in passes]
    pairs = np.exp(times[0] - times[1])
    which = np.array([round_ for round_, _ in every[0][0]])
    rounds = np.unique(which)
    if len(rounds) < 2 or len({int((which == r).sum()) for r in rounds}) > 1:
        return None
    of_rounds = pairs[np.argsort(which, kind="stable")].reshape(len(rounds), -1)
    draws = np.random.default_rng(seed).integers(len(rounds), size=(DRAWS, len(rounds)))
    medians = np.median(of_rounds[draws].reshape(DRAWS, -1), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975), method="weibull")
    return Ratio(float(np.median(pairs)), float(low), float(high), len(pairs))


def _passes(run: Run) -> tuple[list[tuple[int, int]], np.ndarray] | None:
    """[(round, image), ...] and (n,) milliseconds end to end; None unless all are sound."""
    rounds, images, times = (dig(run.speed, "samples", k) for k in ("round", "image", "end_to_end"))
    try:
        which = [(int(r), int(i)) for r, i in zip(rounds, images, strict=True)]
        ms = np.array(times, float)
    except (TypeError, ValueError):
        return None
    sound = ms.ndim == 1 and len(ms) == len(which) > 0 and bool((ms > 0).all())
    return (which, ms) if sound and bool(np.isfinite(ms).all()) else None
