"""Score trained runs on a split of their data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from detzoo.report import text_table
from detzoo.text import interval_text
from detzoo.workflow.select import select
from detzoo.workflow.settings import print_traceback
from detzoo.workflow.stages import evaluate_run
from detzoo.workflow.verb import Result, takes_settings


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """Scores of runs on one split. metrics: run directory -> content of metrics.json."""

    split: str
    metrics: Mapping[Path, Mapping[str, Any]]
    failed: Mapping[Path, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each run: AP with its 95% interval (low, high), AP50 and AP75 in [0, 1]."""
        rows = []
        for path, found in self.metrics.items():
            low, high = found["intervals"]["AP"]
            scores = {"AP": found["AP"], "low": low, "high": high}
            rows.append({"run": path.name, **scores, "AP50": found["AP50"], "AP75": found["AP75"]})
        return pd.DataFrame(rows, columns=["run", "AP", "low", "high", "AP50", "AP75"])

    def text(self) -> str:
        if self.split == "test":  # which reports are of
            return text_table([*self.metrics, *self.failed])
        lines = []
        for path, found in self.metrics.items():
            low, high = found["intervals"]["AP"]
            lines.append(
                f"{path}: {self.split}: AP {found['AP']:.3f} {interval_text(low, high)}  "
                f"AP50 {found['AP50']:.3f}"
            )
        return "\n".join(lines)


@takes_settings
def evaluate(
    runs: str | Path | Sequence[str | Path],
    *,
    split: str = "test",
    batch_size: int = 8,
    backend: str = "auto",
    resamples: int = 1000,
    device: str | None = None,
    precision: str | None = None,
    compile: bool = False,
    images: bool = True,
    data_root: str | Path | None = None,
) -> Evaluation:
    """Score runs; writes metrics.json, predictions.json and dataset.json into each.

    runs: run directories, folders of them, or patterns. backend: pycocotools, faster_coco_eval, or
    auto for the faster one, which gives equal numbers. resamples: of the images, for the intervals.
    device, precision: None for those of the training. images: keep a few of the test split in the
    run, for its reports. data_root: where the data set is now, if it was moved. A run that cannot
    be scored does not stop the others. Raises ValueError without any run.
    """
    metrics: dict[Path, dict[str, Any]] = {}
    failed: dict[Path, str] = {}
    for path in select(runs):
        print(f"evaluate {path}")
        try:
            metrics[path] = evaluate_run(
                path,
                split=split,
                batch_size=batch_size,
                backend=backend,
                resamples=resamples,
                device=device,
                precision=precision,
                compile=compile,
                images=images,
                data_root=data_root,
                again=True,
            )
        except Exception as error:
            failed[path] = print_traceback(error)
    return Evaluation(split, metrics, failed)
