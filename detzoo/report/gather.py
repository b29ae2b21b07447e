"""From run directories and result files to tables with all that is known of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from detzoo.report.analysis import Analysis, analyse
from detzoo.report.compare import Group, groups, names
from detzoo.report.external import joined
from detzoo.report.runs import Run, load_all
from detzoo.report.tables import contenders, group_frame, text_of


@dataclass(frozen=True)
class Table:
    """One protocol. by_name: detector -> its runs, by falling AP. analysis: or why none is."""

    index: int
    group: Group
    frame: pd.DataFrame
    by_name: Mapping[str, Sequence[Run]]
    analysis: Analysis | str


@dataclass(frozen=True)
class Book:
    """runs: all of them, those in no table too. called: run -> the detector's name."""

    runs: Sequence[Run]
    called: Mapping[Run, str]
    tables: Sequence[Table]

    def text(self) -> str:
        """The tables for a terminal of 110 columns, then the runs that are in none."""
        tables = [table.group for table in self.tables]
        return text_of(self.runs, self.called, tables, [table.frame for table in self.tables])


def gather(
    run_dirs: Sequence[str | Path],
    results: Mapping[str, str | Path] | None = None,
    *,
    resamples: int = 1000,
) -> Book:
    """Read and compare all. results: name -> COCO result file. ValueError as `joined` has it."""
    runs = load_all(run_dirs)
    found = joined(groups(runs), results or {}, n=resamples)
    inside = [run for group in found for run in group.runs if run.external]
    runs = [*runs, *inside]
    called = names(runs)
    tables = []
    for index, group in enumerate(found, start=1):
        frame = group_frame(group, called, index)
        by_name = {
            str(name): [run for run in group.runs if called[run] == name]
            for name in contenders(frame)["detector"]
        }
        analysis = analyse(by_name, n=resamples)
        if isinstance(analysis, Analysis):
            frame = analysis.told_in(frame)
        tables.append(Table(index, group, frame, by_name, analysis))
    return Book(runs, called, tables)
