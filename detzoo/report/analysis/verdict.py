"""The answer in two sentences, made from the numbers and no surer than their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from detzoo.metrics.paired import Pair
from detzoo.metrics.samples import FEWEST
from detzoo.report.analysis.speed_ratios import ratio
from detzoo.report.load.runs import Run
from detzoo.report.tables.leaderboard import (
    COLUMNS,
    LEAST,
    contenders,
    format_digits,
    format_limits,
    format_number,
)
from detzoo.report.tables.starts import mixed_starts
from detzoo.text import interval_text

ALPHA = 0.05
TEST = "paired bootstrap, Holm's correction, 5%"
_BY_KEY = {column.key: column for column in COLUMNS}


def write_verdict(
    frame: pd.DataFrame,
    pairs: Sequence[Pair] = (),
    by_name: Mapping[str, Sequence[Run]] | None = None,
) -> list[str]:
    """Two sentences on one table (as `tables.group_frame` makes it): accuracy, then speed.

    pairs: the paired tests of its detectors, which decide whose AP differs; by_name: their runs,
    whose passes are paired where they were timed together. Without these, detectors whose 95%
    intervals overlap "cannot be told apart", which is conservative.
    """
    rows = contenders(frame)
    tested = {frozenset((p.first, p.second)): p for p in pairs if p.p_holm is not None}
    first = " ".join(filter(None, (_accuracy(rows, tested), mixed_starts(frame))))
    return [first, _speed(rows, by_name or {})]


def _accuracy(rows: pd.DataFrame, tested: Mapping[frozenset[str], Pair]) -> str:
    images, groups = rows["images"].iloc[0], _groups(rows.iloc[0])
    n = "test images" if pd.isna(images) else count_images(int(images), groups)
    scored = rows.dropna(subset=["AP"]).sort_values("AP", ascending=False, kind="stable")
    if scored.empty:
        return f"No AP can be given on {n}: there is no ground truth to score against."
    best, others = scored.iloc[0], scored.iloc[1:]
    if best["AP"] < LEAST:
        return f"On {n}, no detector finds anything yet: every AP is below {LEAST}."
    if others.empty:
        return f"{best['detector']} reaches AP {_value(best, 'AP')} on {n}."
    every = [row for _, row in others.iterrows()]
    of = {
        row["detector"]: tested.get(frozenset((best["detector"], row["detector"]))) for row in every
    }
    paired = all(of.values())
    if paired:
        alike = [row for row in every if of[row["detector"]].p_holm >= ALPHA]
    else:
        few = _few(best)
        alike = [row for row in every if few or intervals_overlap(best, row, "AP")]
    below = [row for row in every if not any(row is other for other in alike)]
    start = f"{best['detector']} has the highest AP, {_value(best, 'AP')}"
    if paired:
        above = f"above {_listed([_difference(best, r, of) for r in below])}" if below else ""
        alone = f"{above} ({TEST})"
    else:
        above = f"above {_listed([_beside(r, 'AP') for r in below])}" if below else ""
        above += ", whose 95% intervals lie below" * bool(below)
        alone = f"{above} its own"
    if not alike:
        return f"On {n}, {start}, {alone}."
    if paired:
        reason = TEST
        names = _listed([_difference(best, row, of).replace("(by ", "(") for row in alike])
    else:
        known = _known([best, *alike], "AP")
        reason = "the 95% intervals overlap" if known else "not all have an interval"
        units = "images" if groups is None else "groups of images"
        reason = f"fewer than {FEWEST} {units} tell nothing apart" if few else reason
        names = _listed([_beside(row, "AP") for row in alike])
    these = "this 1 image" if n == count_images(1) else f"these {n}"
    apart = f"it cannot be told apart from {names} on {these}: {reason}."
    return f"{start}, {above}, but {apart}" if below else f"{start}, but {apart}"


def count_images(images: int, groups: int | None = None) -> str:
    """1 image, 2 images; 2 images in 1 group, where they come in groups."""
    text = f"{images:,} image{'s' if images != 1 else ''}"
    return text if groups is None else f"{text} in {groups:,} group{'s' if groups != 1 else ''}"


def _groups(row: pd.Series) -> int | None:
    groups = row.get("groups", math.nan)
    return None if pd.isna(groups) else int(groups)


def _few(row: pd.Series) -> bool:
    """Whether the row's AP rests on too few images, or groups of images, for any significant
    difference."""
    groups = _groups(row)
    return bool((row.get("images", FEWEST) if groups is None else groups) < FEWEST)


def _difference(best: pd.Series, row: pd.Series, of: Mapping[str, Pair]) -> str:
    """The row's name, and by how much the best one's AP is higher."""
    pair = of[row["detector"]]
    low, high = pair.low, pair.high
    if pair.first != best["detector"]:
        low, high = -high, -low
    return f"{row['detector']} (by {abs(pair.difference):.3f} {interval_text(low, high)})"


def _speed(rows: pd.DataFrame, by_name: Mapping[str, Sequence[Run]]) -> str:
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
    sides = [by_name.get(str(row["detector"]), ()) for row in (other, fastest)]
    paired = ratio(*sides) if all(sides) else None
    if intervals_overlap(fastest, other, "p50_ms") if paired is None else paired.low <= 1:
        beside = f"{role} ({_value(other, 'p50_ms')} ms)"
        reason = "" if _known([fastest, other], "p50_ms") else ": not both have an interval"
        return f"{start}, but in speed it cannot be told apart from {beside}{reason}."
    if paired is None:
        return f"{start}, {_ratio(other, fastest)} times as fast as {role}."
    times = (
        f"{format_digits(paired.value)} [{format_digits(paired.low)}, {format_digits(paired.high)}]"
    )
    return f"{start}, {times} times as fast as {role} (over {paired.n:,} paired passes)."


def intervals_overlap(a: pd.Series, b: pd.Series, key: str) -> bool:
    """Whether the intervals of `key` overlap; True if nothing separates them: if either has none,
    and for AP on fewer than FEWEST images or groups of images."""
    if not _known([a, b], key) or (key != "p50_ms" and _few(a)):
        return True
    return bool(a[f"{key}_low"] <= b[f"{key}_high"] and b[f"{key}_low"] <= a[f"{key}_high"])


def _known(rows: list[pd.Series], key: str) -> bool:
    return not any(pd.isna(row[f"{key}_{side}"]) for row in rows for side in ("low", "high"))


def _ratio(slow: pd.Series, fast: pd.Series) -> str:
    """slow / fast with the widest interval that the two intervals allow."""
    middle = format_digits(slow["p50_ms"] / fast["p50_ms"])
    low, high = slow["p50_ms_low"] / fast["p50_ms_high"], slow["p50_ms_high"] / fast["p50_ms_low"]
    known = math.isfinite(low) and math.isfinite(high)
    return f"{middle} [{format_digits(low)}, {format_digits(high)}]" if known else middle


def _value(row: pd.Series, key: str) -> str:
    column = _BY_KEY[key]
    return f"{format_number(column, row[key])} {format_limits(column, row)}".strip()


def _beside(row: pd.Series, key: str) -> str:
    return f"{row['detector']} ({_value(row, key)})"


def _listed(parts: list[str], most: int = 3) -> str:
    """The first ones, the rest by their number."""
    listed = parts[:most] + ([f"{len(parts) - most} more"] if len(parts) > most else [])
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
