"""Search the settings of several detectors on equal terms, and train the winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from detzoo.files import check_writable
from detzoo.report import text_table
from detzoo.workflow import parallel
from detzoo.workflow.bench import with_best_proposals
from detzoo.workflow.settings import (
    check_source,
    directory,
    print_warnings,
    settings_of,
    source,
    write_check,
)
from detzoo.workflow.total_progress import TotalProgress
from detzoo.workflow.tuning import tune_all
from detzoo.workflow.tuning_cost import shown
from detzoo.workflow.verb import Result, takes_settings


@dataclass(frozen=True, repr=False)
class Tuned(Result):
    """Searches and the trainings of their winners. searches: the content of each tune.json, by
    folder; paths: the run directories of the winners."""

    searches: Mapping[Path, Mapping[str, Any]]
    paths: Sequence[Path] = ()
    failed: Mapping[Path, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each search: its winner's values, AP on val of the winner and, where it was
        trained as far, of the first trial, which has the recipe's own rate; trials that failed."""
        rows = []
        for found in self.searches.values():
            trials, winner = found["trials"], found["winner"]
            best = trials[winner] if winner is not None else {"values": {}, "AP": [None]}
            values = ", ".join(f"{name}={shown(v)}" for name, v in best["values"].items())
            own = trials[0]["AP"]
            rows.append(
                {
                    "detector": found["label"],
                    "winner": values or "none",
                    "AP on val": best["AP"][-1],
                    "own rate": own[len(best["AP"]) - 1] if len(own) == len(best["AP"]) else None,
                    "images": found["total"],
                    "failed": sum(trial["error"] is not None for trial in trials),
                }
            )
        return pd.DataFrame(rows)

    def text(self) -> str:
        table = self.frame.to_string(index=False, float_format=lambda x: f"{x:.3f}", na_rep="-")
        return f"{table}\n\n{text_table(self.paths)}" if self.paths else table


@takes_settings
def tune(settings: Mapping[str, Any]) -> Tuned:
    """Search each detector's settings with the same number of trials on the same number of images,
    train the winners with their seeds, and score them on the test split, once.

    settings: of `detzoo tune`, with its trainings: `detzoo.settings("tune", ...)`. Finished work is
    skipped, interrupted work resumed. Raises ValueError, before anything starts, for settings that
    cannot be searched, and ImportError without Optuna.
    """
    if "trainings" not in settings:
        raise ValueError('tune takes what detzoo.settings("tune", ...) gives: a run per detector')
    root, wanted = settings["root"], settings["tune"]
    check_writable(Path(root) / settings["name"] / "run" / "config.yaml")
    runs = [settings_of(training) for training in with_best_proposals(settings)]
    threads = settings["runtime"]["threads"]
    checked = check_source(source(runs[0]))
    print_warnings(checked)
    winners, searches, failed = tune_all(runs, wanted, root, settings["jobs"], threads)
    paths = [directory(winner, root) for winner in winners]
    for path in paths:
        write_check(checked, path)
    if winners:
        at_once = parallel.count_jobs(settings["jobs"], winners, threads)
        with TotalProgress(winners, paths, 0):
            failed |= parallel.run_all(winners, paths, settings["evaluate"], at_once)
    return Tuned(searches, paths, failed)
