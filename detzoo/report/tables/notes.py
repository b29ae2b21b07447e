"""What is wrong with a row of a table, or must be known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detzoo.report.load.effort import effort_notes
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean


def notes(runs: Sequence[Run], called: Mapping[Run, str]) -> dict[str, str]:
    """What is wrong with a row or must be known of it -> the rows that it is about."""
    effort = effort_notes(runs)
    return group_notes(
        [(f"{called[r]} ({r.title})", [*r.problems, *warnings(r), *effort[r]]) for r in runs]
    )


def group_notes(notes_of: Sequence[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """(row, note) -> text: its rows, or `all rows` where they are more than two.

    A row of several tables, as another program's results are, is named once.
    """
    rows_of: dict[str, dict[str, None]] = {}
    for row, texts in notes_of:
        for text in texts:
            rows_of.setdefault(text, {})[row] = None
    names = {row for row, _ in notes_of}
    return {
        text: "all rows" if len(rows) == len(names) > 2 else ", ".join(rows)
        for text, rows in rows_of.items()
    }


def warnings(run: Run) -> list[str]:
    """What the clock warned of, and what scoring noted."""
    found = (run.speed.get("warnings"), run.metrics.get("notes"))
    texts = [text for part in found if isinstance(part, list) for text in part]
    return list(dict.fromkeys(clean(text, 500) for text in texts))
