"""The tables as LaTeX: plain `tabular`, no package needed, every name escaped."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from detzoo.report.load.values import clean
from detzoo.report.tables.leaderboard import Column, columns, format_cell, format_limits, seed_text

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "…": r"\ldots{}",
    "[": "{[}",  # after \\ it would begin an option
    "*": "{*}",  # likewise
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_SPECIAL.get(c, c) for c in " ".join(clean(text).split()))


def latex(frames: Sequence[pd.DataFrame]) -> str:
    """Two `tabular` a table, that each fits a page: accuracies, and what they cost."""
    parts = [
        "% Accuracies in [0, 1], intervals 95%; milliseconds end to end at batch 1.\n"
        "% Plain LaTeX; names in other scripts than Latin want lualatex or xelatex."
    ]
    for index, frame in enumerate(frames, start=1):
        if len(frames) > 1:
            parts.append(f"% Table {index} of {len(frames)}: not to be compared with the others")
        of = columns(frame)
        accuracies = [column for column in of if column.kind in ("rank", "accuracy")]
        costs = [column for column in of if column not in accuracies]
        parts += [_tabular(frame, accuracies), r"\bigskip", _tabular(frame, costs)]
    return "\n\n".join(parts) + "\n"


def _tabular(frame: pd.DataFrame, shown: Sequence[Column]) -> str:
    heads = ["detector", "seed", "start", *(column.title for column in shown)]
    lines = [
        rf"\begin{{tabular}}{{lll{'r' * len(shown)}}}",
        r"\hline",
        _row([escape(head) for head in heads]),
        r"\hline",
    ]
    for _, row in frame.iterrows():
        cells = [escape(t) for t in (str(row["detector"]), seed_text(row), str(row["start"]))]
        for column in shown:
            text = escape(format_cell(column, row))
            if column.kind == "rank":
                text = text.replace("-", "--")
            if interval := format_limits(column, row):
                text += rf" {{\scriptsize {escape(interval)}}}"
            cells.append(text)
        lines.append(_row(cells))
    return "\n".join([*lines, r"\hline", r"\end{tabular}"])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
