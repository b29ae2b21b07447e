"""The effect of grouped images on the intervals of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detzoo.metrics.samples import FEWEST
from detzoo.report.load.runs import Run
from detzoo.report.load.values import number


def describe_groups(runs: Sequence[Run]) -> str:
    """By how much groups have widened AP's intervals, the mean over the runs; "" without groups."""
    known = [run for run in runs if number(run.metrics, "groups", "number") >= 1]
    if not known:
        return ""
    groups, images = (number(known[0].metrics, "groups", key) for key in ("number", "images"))
    factors = [number(run.metrics, "groups", "widening") for run in known]
    factors = [factor for factor in factors if not math.isnan(factor)]
    text = f"Images come in groups, which are drawn whole: {groups:,.0f} of them hold the "
    text += f"{images:,.0f} test images with boxes"
    if factors:
        text += (
            f", and intervals by groups are {sum(factors) / len(factors):.1f} times as wide as by "
            "images"
        )
    if groups < FEWEST:
        text += f". Fewer than {FEWEST} groups tell nothing apart"
    return f"{text}."
