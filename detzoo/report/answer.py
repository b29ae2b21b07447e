"""The answer in two sentences, made from the numbers and no surer than their intervals."""

from __future__ import annotations

import math

import pandas as pd

from detzoo.report.tables import COLUMNS, contenders, digits, limits, shown

LEAST = 0.001  # an AP below it is no result, whatever its interval
_BY_KEY = {column.key: column for column in COLUMNS}


def answer(frame: pd.DataFrame) -> list[str]:
    """Two sentences on one table (as `tables.group_frame` makes it): accuracy, then speed.

    Detectors whose 95% intervals overlap "cannot be told apart": that errs on the safe side, since
    a paired test may separate some of them.
    """
    return [_accuracy(contenders(frame)), _speed(contenders(frame))]


def _accuracy(rows: pd.DataFrame) -> str:
    n = rows["images"].iloc[0]
    n = "test images" if pd.isna(n) else f"{int(n):,} images"
    scored = rows.dropna(subset=["AP"]).sort_values("AP", ascending=False, kind="stable")
    if scored.empty:
        return f"No AP can be given on {n}: there is no ground truth to score against."
    best, others = scored.iloc[0], scored.iloc[1:]
    if best["AP"] < LEAST:
        return f"On {n}, no detector finds anything yet: every AP is below {LEAST}."
    if others.empty:
        return f"{best['detector']} reaches AP {_value(best, 'AP')} on {n}."
    alike = [row for _, row in others.iterrows() if overlap(best, row, "AP")]
    below = [row for _, row in others.iterrows() if not overlap(best, row, "AP")]
    start = f"{best['detector']} has the highest AP, {_value(best, 'AP')}"
    above = f"above {_listed(below, 'AP')}, whose 95% intervals lie below" if below else ""
    if not alike:
        return f"On {n}, {start}, {above} its own."
    known = _known([best, *alike], "AP")
    reason = "the 95% intervals overlap" if known else "not all have an interval"
    apart = f"it cannot be told apart from {_listed(alike, 'AP')} on these {n}: {reason}."
    return f"{start}, {above}, but {apart}" if below else f"{start}, but {apart}"


def _speed(rows: pd.DataFrame) -> str:
    timed = rows.dropna(subset=["p50_ms"]).sort_values("p50_ms", kind="stable")
    if timed.empty:
        return "None of them was timed."
    fastest, others = timed.iloc[0], timed.iloc[1:]
    takes = f"{_value(fastest, 'p50_ms')} ms an image (median, end to end, batch 1)"
    if others.empty:
        return f"{fastest['detector']} takes {takes}."
    most_accurate = timed.sort_values("AP", ascending=False, kind="stable").iloc[0]
    start = f"{fastest['detector']} is the fastest with {takes}"
    if most_accurate["detector"] == fastest["detector"]:
        other = others.iloc[0]
        start = f"{fastest['detector']} is also the fastest with {takes}"
        role = f"the next, {other['detector']}"
    else:
        other = most_accurate
        role = str(other["detector"])
    if overlap(fastest, other, "p50_ms"):
        beside = f"{role} ({_value(other, 'p50_ms')} ms)"
        reason = "" if _known([fastest, other], "p50_ms") else ": not both have an interval"
        return f"{start}, but in speed it cannot be told apart from {beside}{reason}."
    return f"{start}, {_ratio(other, fastest)} times as fast as {role}."


def overlap(a: pd.Series, b: pd.Series, key: str) -> bool:
    """Whether the intervals of `key` overlap; True if either has none: nothing separates them."""
    if not _known([a, b], key):
        return True
    return bool(a[f"{key}_low"] <= b[f"{key}_high"] and b[f"{key}_low"] <= a[f"{key}_high"])


def _known(rows: list[pd.Series], key: str) -> bool:
    return not any(pd.isna(row[f"{key}_{side}"]) for row in rows for side in ("low", "high"))


def _ratio(slow: pd.Series, fast: pd.Series) -> str:
    """slow / fast with the widest interval that the two intervals allow."""
    middle = digits(slow["p50_ms"] / fast["p50_ms"])
    low, high = slow["p50_ms_low"] / fast["p50_ms_high"], slow["p50_ms_high"] / fast["p50_ms_low"]
    known = math.isfinite(low) and math.isfinite(high)
    return f"{middle} [{digits(low)}, {digits(high)}]" if known else middle


def _value(row: pd.Series, key: str) -> str:
    column = _BY_KEY[key]
    return f"{shown(column, row[key])} {limits(column, row)}".strip()


def _listed(rows: list[pd.Series], key: str, most: int = 3) -> str:
    """The first ones by name and value, the rest by their number."""
    parts = [f"{row['detector']} ({_value(row, key)})" for row in rows[:most]]
    if len(rows) > most:
        parts.append(f"{len(rows) - most} more")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
