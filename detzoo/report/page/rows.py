"""Rows of the page's tables as plain values for the template."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from detzoo.report.analysis.detectors import Detail
from detzoo.report.analysis.rows import NUMBERS, deployment_values
from detzoo.report.figures.palette import Style
from detzoo.report.images.overlay import dot
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, shorten
from detzoo.report.page import protocol
from detzoo.report.tables.leaderboard import Column, format_cell, format_limits, seed_text
from detzoo.text import interval_text

SHORT = 40  # letters of a name in a table or a sentence; the whole name is its title


def run_row(run: Run, name: str, out: Path) -> dict[str, str]:
    """A run as a row, with links that work where the page is beside its runs."""
    folder = run.path.parent if run.external else run.path
    results = run.path if run.external else run.path / "predictions.json"
    return {
        "name": shorten(name, 60),
        "seed": run.title,
        "run": clean(run.path.name, 200),
        "link": _link(folder, out),
        "predictions": _link(results, out) if results.is_file() else "",
        "command": protocol.command_of(run),
    }


def _link(path: Path, out: Path) -> str:
    """A relative URL that is a plain path; empty where there is none."""
    try:
        return quote(Path(os.path.relpath(path.resolve(), out.resolve())).as_posix())
    except (OSError, ValueError):  # another drive
        return ""


def detail_row(name: str, detail: Detail, styles: Mapping[str, Style]) -> dict[str, object]:
    return _detail_row(name, [(number.value(detail), None) for number in NUMBERS], styles)


def deployment_row(name: str, detail: Detail, styles: Mapping[str, Style]) -> dict[str, object]:
    return _detail_row(name, deployment_values(detail), styles)


def _detail_row(
    name: str,
    values: Sequence[tuple[float | None, tuple[float, float] | None]],
    styles: Mapping[str, Style],
) -> dict[str, object]:
    """values: (number, its interval) by column."""
    return {
        "detector": name,
        "shown": shorten(name, SHORT),
        "mark": dot(styles[name].colour, styles[name].marker),
        "cells": [
            {
                "text": "n/a" if v is None else f"{v:.3f}",
                "limits": "" if ends is None else interval_text(*ends),
                "value": "" if v is None else repr(float(v)),
            }
            for v, ends in values
        ],
    }


def board_row(
    row: pd.Series, styles: Mapping[str, Style], shown: Sequence[Column], means: Collection[str]
) -> dict[str, object]:
    cells = []
    for column in shown:
        cells.append(
            {
                "text": format_cell(column, row),
                "limits": format_limits(column, row),
                "main": column.main,
                "value": _value(column, row),
            }
        )
    return {
        "detector": row["detector"],
        "shown": shorten(row["detector"], SHORT),
        "mark": dot(styles[row["detector"]].colour, styles[row["detector"]].marker),
        "seed": _seed(row),
        "start": shorten(str(row["start"]), 40),
        "kind": "seed" if row["kind"] == "run" and row["detector"] in means else row["kind"],
        "state": row["state"],
        "cells": cells,
    }


def _value(column: Column, row: pd.Series) -> str:
    """The sort key of a cell, for the page; empty for n/a."""
    if pd.isna(row[column.key]):
        return ""
    return str(row[column.key]) if column.kind == "text" else repr(_order(column, row))


def _order(column: Column, row: pd.Series) -> float:
    """What a column is sorted by; of equal best ranks the better worst one comes first."""
    more = row["rank_worst"] / 1e4 if column.kind == "rank" else 0
    return float(row[column.key] + more)


def _seed(row: pd.Series) -> str:
    if row["kind"] == "mean" or row["seed"] == "external":
        return "external results" if row["seed"] == "external" else seed_text(row)
    return f"seed {row['seed']}"


def left_out_row(run: Run, name: str) -> dict[str, object]:
    """The reason's last line is the error itself where it is a traceback; the rest on request."""
    first, *more = run.problems
    lines = [line for line in first.splitlines() if line.strip()]
    long = len(lines) > 1
    reason = f"{lines[0]} … {lines[-1].strip()}" if long else first
    return {
        "name": name,
        "seed": run.seed,
        "run": run.path.name,
        "state": run.state,
        "reason": reason,
        "full": first if long else "",
        "more": more,
    }
