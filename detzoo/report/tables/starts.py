"""What the rows of a table start from, in words."""

from __future__ import annotations

import pandas as pd

from detzoo.report.tables.leaderboard import contenders


def describe_starts(frame: pd.DataFrame) -> str:
    """The column that a terminal of 80 has no room for: `start: coco`."""
    starts = contenders(frame).groupby("start", sort=False)["detector"].apply(", ".join)
    if len(starts) < 2:
        return f"start: {starts.index[0]}" if len(starts) else ""
    return "start: " + "; ".join(f"{start} ({names})" for start, names in starts.items())


def mixed_starts(frame: pd.DataFrame) -> str:
    """Which rows start from which weights, as one sentence, where they differ; else empty.

    Other programs' rows do not count: their start is not known here.
    """
    if "start" not in frame:
        return ""
    rows = contenders(frame)
    rows = rows[rows["start"] != "external"]
    if rows["start"].nunique() < 2:
        return ""
    by = rows.groupby("start", sort=False)["detector"].apply(", ".join)
    listed = "; ".join(f"{start}: {names}" for start, names in by.items())
    return (
        f"The rows start from different weights ({listed}), which the ranking does not allow for."
    )
