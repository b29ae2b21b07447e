"""Passes that took far longer than the median, and what the samples show about the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detzoo.report.load.runs import Run
from detzoo.report.load.values import dig

SLOW = 3.0  # times the median
STAGES = ("decode", "network", "postprocess")  # whose time is kept pass by pass
MOST = 0.8  # of the slow passes, which make a reason


@dataclass(frozen=True)
class Passes:
    """The passes of one run: (n,) ms end to end and of each of STAGES, and each pass's round and
    image."""

    ms: np.ndarray
    stages: dict[str, np.ndarray]
    round: np.ndarray
    image: np.ndarray

    @property
    def slow(self) -> np.ndarray:
        """(n,) bool."""
        return self.ms > SLOW * np.median(self.ms)


def passes(run: Run) -> Passes | None:
    """None where the run did not keep them, or they are damaged."""
    found = {k: _array(run, k) for k in ("end_to_end", "round", "image", *STAGES)}
    sizes = {len(of) for of in found.values() if of is not None}
    ms = found["end_to_end"]
    if ms is None or found["round"] is None or found["image"] is None or len(sizes) != 1:
        return None
    stages = {key: of for key in STAGES if (of := found[key]) is not None}
    return Passes(ms, stages, found["round"], found["image"]) if len(ms) else None


def _array(run: Run, key: str) -> np.ndarray | None:
    try:
        values = np.array(dig(run.speed, "samples", key), float)
    except (TypeError, ValueError):
        return None
    return values if values.ndim == 1 and np.isfinite(values).all() else None


def outliers(runs: Sequence[Run]) -> list[float]:
    """ms of all slow passes, falling."""
    known = [of for run in runs if (of := passes(run))]
    return sorted((float(ms) for of in known for ms in of.ms[of.slow]), reverse=True)


def explain_tail(runs: Sequence[Run]) -> str:
    """Why some passes are slow, by rounds, images and stages; empty without slow passes."""
    known = [of for run in runs if (of := passes(run)) and of.slow.any()]
    if not known:
        return ""
    total = sum(len(of.ms) for run in runs if (of := passes(run)))
    count = sum(int(of.slow.sum()) for of in known)
    causes = [_of_images(of) or _of_rounds(of) for of in known]
    where = causes[0] if len(set(causes)) == 1 and causes[0] else "spread over rounds and images"
    stages = {_stage(of) for of in known}
    stage = stages.pop() if len(stages) == 1 else ""
    return (
        f"{count:,} of {total:,} passes, {where}{f'; it is the {stage} that grows' * bool(stage)}"
    )


def _of_images(of: Passes) -> str:
    """Whether the slow ones are of images that are slow each time."""
    always = [i for i in np.unique(of.image[of.slow]) if of.slow[of.image == i].mean() >= MOST]
    often = [i for i in always if (of.image == i).sum() > 1]
    if not often or np.isin(of.image[of.slow], often).mean() < MOST:
        return ""
    if len(often) == 1:
        return "of one image in every round, so that what is on it takes that long"
    same = f"of the same {len(often)} images in every round"
    return f"{same}, so that what is on them takes that long"


def _of_rounds(of: Passes) -> str:
    """Whether they are all of few rounds."""
    rounds, counts = np.unique(of.round[of.slow], return_counts=True)
    every = len(np.unique(of.round))
    few = np.sort(counts)[::-1][: max(1, every // 5)].sum() >= MOST * counts.sum()
    if not few or every < 2 or (of.slow.sum() == 1):
        return ""
    return f"in {len(rounds)} of {every} rounds, so that something else kept the machine busy"


def _stage(of: Passes) -> str:
    """The one that most of the excess over the medians is in."""
    over = {k: float((v[of.slow] - np.median(v)).sum()) for k, v in of.stages.items()}
    whole = float((of.ms[of.slow] - np.median(of.ms)).sum())
    longest = max(over, key=lambda key: over[key], default="")
    return longest if longest and over[longest] > whole / 2 else ""
