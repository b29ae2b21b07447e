"""Train one detector into one run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from detzoo.detector import Detector
from detzoo.engine import distributed
from detzoo.files import check_writable
from detzoo.report.load.files import read_curve
from detzoo.workflow.settings import (
    Settings,
    check_source,
    directory,
    print_warnings,
    settings_of,
    source,
    write_check,
)
from detzoo.workflow.stages import train_run
from detzoo.workflow.verb import Result, takes_settings


@dataclass(frozen=True, repr=False)
class TrainedRun(Result):
    """A run directory whose training is over."""

    path: Path

    @property
    def frame(self) -> pd.DataFrame:
        """The learning curve: a row for each validation during the training."""
        return pd.DataFrame(read_curve(self.path)[0])

    def text(self) -> str:
        return str(self.path)

    def load(self, device: str = "cpu") -> Detector:
        """The trained detector, in eval mode."""
        import detzoo

        return detzoo.load(self.path, device)


@takes_settings
def train(
    settings: Mapping[str, Any],
    *,
    before: Callable[[Settings, Path], AbstractContextManager[Any]] = lambda *_: nullcontext(),
) -> TrainedRun:
    """Train a detector; an interrupted run is resumed, a finished one is left alone.

    settings: of `detzoo train`. before: called with the run's complete settings and its directory;
    the training runs inside of the context that it gives. Raises ValueError for settings and data
    that cannot be used, before anything starts.
    """
    check_writable(Path(settings["root"]) / settings["name"] / "run" / "config.yaml")
    with distributed.process_group(settings["runtime"]["device"]):
        with distributed.main_process_first():  # it may have to draw the data set
            run = settings_of(settings)
            checked = check_source(source(run))
        path = directory(run, settings["root"])
        if distributed.is_main_process():
            print_warnings(checked)
            write_check(checked, path)
        with before(run, path):
            train_run(run, path)
        if distributed.is_main_process():
            print(path)
    return TrainedRun(path)
