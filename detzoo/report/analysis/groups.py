"""What images in groups do to the intervals of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detzoo.metrics.samples import FEWEST
from detzoo.report.load.runs import Run, number


def sentence(runs: Sequence[Run]) -> str:
    """By how much groups have widened AP's intervals, the mean over the runs; "" without groups."""
    known = [run for run in runs if number(run.metrics, "groups", "number") >= 1]
    if not known:
        return ""
    groups, images = (number(known[0].metrics, "groups", key) for key in ("number", "images"))
    factors = [number(run.metrics, "groups", "widening") for run in known]
    factors = [factor for factor in factors if not math.isnan(factor)]
    said = f"Images come in groups, which are drawn whole: {groups:,.0f} of them hold the "
    said += f"{images:,.0f} test images with boxes"
    if factors:
        said += (
            f", and intervals by groups are {sum(factors) / len(factors):.1f} times as wide as by "
            "images"
        )
    if groups < FEWEST:
        said += f". Fewer than {FEWEST} groups tell nothing apart"
    return f"{said}."
