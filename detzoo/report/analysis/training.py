"""Whether training has converged, by the learning curves: pure functions of their points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from detzoo.report.load.runs import Run
from detzoo.report.tables.leaderboard import LEAST

Curve = Sequence[tuple[float, float]]  # (images seen, AP on val), by images seen

POINTS = 3  # with fewer there is no trend
GAIN = 0.02  # of the last AP: what the last interval must add, or have lost, to count


def curve_of(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """The mean over a detector's runs, at the images seen that all of them were scored at."""
    tables = [{row["images_seen"]: row["AP"] for row in run.curve} for run in runs]
    if not tables:
        return []
    common = sorted(set(tables[0]).intersection(*tables[1:]))
    return [(seen, sum(of[seen] for of in tables) / len(tables)) for seen in common]


def trend(curve: Curve) -> str:
    """`rises`, `level` or `falls` at its end; empty where POINTS or an AP are missing.

    The last interval decides; a curve falls if its end is below its best by GAIN.
    """
    if len(curve) < POINTS or curve[-1][1] < LEAST:
        return ""
    values = [ap for _, ap in curve]
    last, least = values[-1], GAIN * max(values)
    if last < max(values) - least:
        return "falls"
    return "rises" if last - values[-2] > least else "level"


def crossing(best: Curve, other: Curve) -> float | None:
    """The images seen at which `best` overtook `other` for good, if in the second half.

    None where it was ahead before, or where they share fewer than POINTS points.
    """
    theirs = dict(other)
    gaps = [(seen, ap - theirs[seen]) for seen, ap in best if seen in theirs]
    if len(gaps) < POINTS or gaps[-1][1] <= 0:
        return None
    behind = [i for i, (_, gap) in enumerate(gaps) if gap < 0]
    if not behind or 2 * (behind[-1] + 1) < len(gaps):
        return None
    return gaps[behind[-1]][0]


def describe_curves(curves: Mapping[str, Curve]) -> str:
    """Whether training is done, of detectors by falling AP; no surer than their points."""
    seen = max((curve[-1][0] for curve in curves.values() if curve), default=math.nan)
    trends = {name: of for name, curve in curves.items() if (of := trend(curve))}
    if not trends:
        if any(0 < len(curve) < POINTS for curve in curves.values()):
            return (
                "It is unknown whether training is done: that takes curves of "
                f"{POINTS} points or more (recipe.val_points=5)."
            )
        return "It is unknown whether training is done: there are no learning curves."
    after = f"after {seen:,.0f} images"
    rising = [name for name, of in trends.items() if of == "rises"]
    falling = [name for name, of in trends.items() if of == "falls"]
    every = "The curve" if len(trends) == 1 else "All curves" if len(rising) > 2 else "Both curves"
    if len(rising) == len(trends):
        still = "still rises" if len(trends) == 1 else "still rise"
        text = f"{every} {still}: this is an order {after}, and more training (recipe.images_seen) "
        text += "may change it."
        if len(trends) == 1:
            text = f"The curve still rises {after}: more training (recipe.images_seen) would help."
    elif rising:
        names = list_names(rising)
        verb = "rises" if len(rising) == 1 else "rise"
        text = f"The curve{'s' * (len(rising) > 1)} of {names} still {verb} {after}: another "
        text += "budget may give another order."
    else:
        text = f"No curve rises any more {after}."
    if falling:
        verb = "has" if len(falling) == 1 else "have"
        text += f" {list_names(falling)} {verb} fallen below an earlier best."
    return text


def describe_crossings(curves: Mapping[str, Curve]) -> str:
    """The curves that the best one overtook only late; may be empty."""
    names = list(curves)
    if not names:
        return ""
    passed = {n: at for n in names[1:] if (at := crossing(curves[names[0]], curves[n])) is not None}
    if not passed:
        return ""
    last = max(passed.values())
    return (
        f"Curves cross: {names[0]} passed {list_names(list(passed))} only after {last:,.0f} "
        "images, so that a smaller or larger budget may give another order."
    )


def list_names(names: Sequence[str], most: int = 3) -> str:
    """The first ones, the rest by their number."""
    listed = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
