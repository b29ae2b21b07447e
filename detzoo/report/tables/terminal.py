"""The tables for a terminal of 80 columns, with their sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from detzoo.report.load.protocols import (
    Group,
    differences,
    group_runs,
    name_detectors,
    title,
    title_of,
)
from detzoo.report.load.runs import Run, load_all
from detzoo.report.load.values import clean, shorten
from detzoo.report.tables.leaderboard import (
    align,
    columns,
    contenders,
    format_cell,
    format_limits,
    group_frame,
)
from detzoo.report.tables.notes import notes
from detzoo.report.tables.starts import describe_starts

NAME_WIDTH = 24  # of a detector in the terminal's table


def text_table(run_dirs: Iterable[str | Path]) -> str:
    """The tables for a terminal of 80 columns, then the runs that are in none, with reasons."""
    runs = load_all(run_dirs)
    called, tables = name_detectors(runs), group_runs(runs)
    frames = [group_frame(group, called, index) for index, group in enumerate(tables, start=1)]
    return format_tables(runs, called, tables, frames)


def format_tables(
    runs: Sequence[Run],
    called: Mapping[Run, str],
    tables: Sequence[Group],
    frames: Sequence[pd.DataFrame],
    sentences: Sequence[Sequence[str]] = (),
) -> str:
    """As `text_table`, from finished tables. said: the sentences below each."""
    lines: list[str] = []
    for index, frame in enumerate(frames, start=1):
        if len(tables) > 1:
            lines.append(f"Table {index} of {len(tables)}: not to be compared with the others")
        lines += [*_text(frame), describe_starts(frame), ""]
        for text in sentences[index - 1] if sentences else ():
            lines += textwrap.wrap(text, 80)
        lines += [""] * bool(sentences)
    for field, values in differences(tables).items():
        lines.append(f"the tables differ in {title(field)}: {' | '.join(values)}")
    for run in runs:
        if not run.ranked:
            reason = " ".join(run.problems[0].split())
            lines.append(f"left out: {title_of(run, called[run])}: {reason}")
    for text, rows in notes([run for run in runs if run.ranked], called).items():
        lines.append(f"note: {rows}: {text}")
    return "\n".join(clean(line.rstrip(), 500) for line in lines).strip("\n") + "\n"


def _text(frame: pd.DataFrame) -> list[str]:
    """One table, a detector a row, at most 80 columns wide."""
    short = [column for column in columns(frame) if column.main]
    heads = [column.title.replace("train ", "") for column in short]
    rows = [
        [*heads[:1], "detector", *heads[1:]] if short[0].key == "rank" else ["detector", *heads]
    ]
    first = int(short[0].key == "rank")
    for _, row in contenders(frame).iterrows():
        cells = [format_cell(column, row) for column in short]
        cells[first] = f"{cells[first]} {format_limits(short[first], row)}".strip()
        name = f" ({row['runs']} seeds)" if row["kind"] == "mean" else ""
        cells.insert(first, shorten(str(row["detector"]), NAME_WIDTH - len(name)) + name)
        rows.append(cells)
    return align(rows, left=1 + first)
