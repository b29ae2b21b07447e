"""From run directories and result files to tables with all that is known of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from detzoo.metrics.paired import Pair
from detzoo.report.analysis.detectors import Analysis, Detail, analyse
from detzoo.report.analysis.groups import describe_groups
from detzoo.report.analysis.speed_ratios import Ratio, ratio
from detzoo.report.analysis.summary import Known, Point, Sentence, summary
from detzoo.report.analysis.tails import explain_tail
from detzoo.report.analysis.training import curve_of
from detzoo.report.load.datasets import Data, data_of
from detzoo.report.load.external import join_results
from detzoo.report.load.protocols import Group, group_runs, name_detectors
from detzoo.report.load.runs import Run, load_all
from detzoo.report.load.values import dig, number
from detzoo.report.tables.leaderboard import contenders, group_frame
from detzoo.report.tables.starts import mixed_starts
from detzoo.report.tables.terminal import format_tables


@dataclass(frozen=True)
class Table:
    """One protocol. by_name: detector -> its runs, by falling AP. analysis: or the reason why there
    is none. summary: the answers needed first. data: None where no run recorded any."""

    index: int
    group: Group
    frame: pd.DataFrame
    by_name: Mapping[str, Sequence[Run]]
    analysis: Analysis | str
    summary: Sequence[Sentence]
    data: Data | None


@dataclass(frozen=True)
class Book:
    """runs: all of them, those in no table too. called: run -> the detector's name."""

    runs: Sequence[Run]
    called: Mapping[Run, str]
    tables: Sequence[Table]

    def text(self) -> str:
        """The tables for a terminal of 80 columns, each with its first two sentences, then the
        runs that are in none."""
        groups_, frames = ([getattr(t, of) for t in self.tables] for of in ("group", "frame"))
        sentences = [
            [s.text for s in table.summary[: 2 + bool(mixed_starts(table.frame))]]
            for table in self.tables
        ]
        return format_tables(self.runs, self.called, groups_, frames, sentences)


def gather(
    run_dirs: Sequence[str | Path],
    results: Mapping[str, str | Path] | None = None,
    *,
    resamples: int = 1000,
    data_root: str | None = None,
    across_starts: bool = False,
) -> Book:
    """Read and compare all. results: name -> COCO result file. data_root: where the data set is
    now, if it was moved. across_starts: rank rows together that start from different weights.
    Raises ValueError as `join_results` does.
    """
    runs = load_all(run_dirs)
    if data_root:
        runs = [replace(run, data_root=data_root) for run in runs]
    found = join_results(group_runs(runs, across_starts=across_starts), results or {}, n=resamples)
    inside = [run for group in found for run in group.runs if run.external]
    runs = [*runs, *inside]
    called = name_detectors(runs)
    tables = []
    for index, group in enumerate(found, start=1):
        frame = group_frame(group, called, index)
        by_name = {
            str(name): [run for run in group.runs if called[run] == name]
            for name in contenders(frame)["detector"]
        }
        analysis = analyse(by_name, n=resamples)
        if isinstance(analysis, Analysis):
            frame = analysis.complete(frame)
        sentences = summary(frame, collect_known(by_name, analysis))
        tables.append(Table(index, group, frame, by_name, analysis, sentences, data_of(group.runs)))
    return Book(runs, called, tables)


def collect_known(by_name: Mapping[str, Sequence[Run]], analysis: Analysis | str) -> Known:
    """The part of a table that `summary` may use."""
    curves = {name: curve_of(runs) for name, runs in by_name.items()}
    classes = {name: class_aps(runs) for name, runs in by_name.items()}
    pairs: Sequence[Pair] = ()
    points = {name: Point(reason=str(analysis)) for name in by_name}
    if isinstance(analysis, Analysis):
        pairs = analysis.pairs
        points = {name: _point(detail) for name, detail in analysis.details.items()}
    tails = {name: explain_tail(runs) for name, runs in by_name.items()}
    of_groups = describe_groups([run for runs in by_name.values() for run in runs])
    return Known(pairs, points, curves, classes, ratios(by_name), tails, of_groups)


def ratios(by_name: Mapping[str, Sequence[Run]]) -> dict[str, Ratio]:
    """name -> how many times the fastest one's latency it takes, of those timed beside it."""
    medians = {
        name: sum(number(run.speed, "end_to_end", "p50") for run in runs) / len(runs)
        for name, runs in by_name.items()
    }
    timed = {name: ms for name, ms in medians.items() if ms > 0}
    if not timed:
        return {}
    fastest = min(timed, key=lambda name: timed[name])
    found = {n: ratio(by_name[n], by_name[fastest]) for n in timed if n != fastest}
    return {name: of for name, of in found.items() if of is not None}


def class_aps(runs: Sequence[Run]) -> dict[str, float]:
    """class -> AP, the mean over the runs; NaN where any has none."""
    tables = [dig(run.metrics, "per_class") for run in runs]
    first = tables[0] if tables and isinstance(tables[0], dict) else {}
    return {name: sum(number(t, name, "AP") for t in tables) / len(tables) for name in first}


def _point(detail: Detail) -> Point:
    point = detail.point
    of_test = (point.test[key] for key in ("f1", "precision", "recall", "false_alarms"))
    return Point(point.threshold, *of_test, point.reason)
