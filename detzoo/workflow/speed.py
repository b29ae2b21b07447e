"""Time runs, or models that were never trained, against one another."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from detzoo.files import read_json, write_text
from detzoo.report import speed_table
from detzoo.run_config import BEGUN, copy_proposer
from detzoo.text import escaped
from detzoo.workflow import studies
from detzoo.workflow.runtimes import difference, exported_runs
from detzoo.workflow.select import select
from detzoo.workflow.settings import Settings, directory, settings_of
from detzoo.workflow.timing import UNTRAINED, time_runs
from detzoo.workflow.verb import Result, takes_settings


@dataclass(frozen=True, repr=False)
class Timing(Result):
    """Runs that were timed. study: the table of a study, "" without one. differences: of exported
    rows' AP to torch's, in sentences."""

    paths: Sequence[Path]
    failed: Mapping[Path, str] = field(default_factory=dict)
    study: str = ""
    only_study: bool = False
    differences: Sequence[str] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each run of its speed.json: ms at batch 1 with the 95% interval of the median,
        images a second at the best batch size, GMACs, parameters, MB."""
        return pd.DataFrame([_row(path) for path in self.paths])

    def text(self) -> str:
        if not self.paths:
            return ""
        table = "" if self.only_study else speed_table(self.paths)
        return "\n".join(filter(None, [table, self.study, *self.differences]))

    def html(self) -> str:
        study = f"<pre>{html.escape(escaped(self.study, lines=True))}</pre>" if self.study else ""
        return ("" if self.only_study else super().html()) + study


def _row(path: Path) -> dict[str, Any]:
    speed = read_json(path / "speed.json")
    whole = speed["end_to_end"]
    low, high = whole.get("interval") or (None, None)
    return {
        "run": path.name,
        **{f"{key}_ms": whole[key] for key in ("p50", "p90", "p99")},
        "low_ms": low,
        "high_ms": high,
        "images_per_second": (speed.get("throughput") or {}).get("images_per_second"),
        **{key: speed.get(key) for key in ("gmacs", "parameters", "peak_memory_mb")},
    }


@takes_settings
def speed(
    runs: str | Path | Sequence[str | Path],
    *,
    seconds: float = 60,
    rounds: int | None = None,
    max_batch: int = 32,
    batches: Sequence[int] | None = None,
    reference: str | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
    precision: str | None = None,
    channels_last: bool | None = None,
    compile: bool = False,
    threads: int | None = None,
    lock: bool = True,
    exported: str | None = None,
    study: str | None = None,
    precisions: Sequence[str] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
) -> Timing:
    """Time runs in interleaved rounds; writes speed.json into each.

    seconds: for all runs together; rounds: exactly this number instead. max_batch: of the sweep for
    the throughput; batches: these sizes instead. reference: the row that the others are compared
    with. size: pixels, None for the training's; likewise device, precision, channels_last, threads.
    lock: one timing at a time on a machine. exported: onnxruntime or openvino, then each run's
    exported network (precision: fp32 or int8) is timed and scored beside it. study: content, batch
    or precision, the last of `precisions`. evaluate: how to score a run whose scores are not of the
    timed object. data_root: where the data set is now, if it was moved. Raises ValueError without
    any run, and for an unknown study or reference.
    """
    check_study(study)
    if precisions is not None and study != "precision":
        raise ValueError("precisions=[...] is of study=precision; precision=NAME times in one")
    if precision is not None and study == "precision":
        raise ValueError("study=precision times in several; precisions=[...] names them")
    paths = select(runs)
    made, lost = {}, {}
    if exported is not None:
        if study is not None:
            raise ValueError("runtime= has no study=; time the exported networks without one")
        made, lost = exported_runs(paths, exported, precision, data_root)
        paths, precision = [path for pair in made.items() for path in pair], None
    options = {"seconds": seconds, "rounds": rounds, "max_batch": max_batch, "batches": batches}
    options |= {"reference": reference, "size": size, "lock": lock, "compile": compile}
    options |= {"device": device, "precision": precision, "channels_last": channels_last}
    options |= {"threads": threads, "evaluate": evaluate, "data_root": data_root}
    if study == "precision":
        failed = studies.precision(paths, precisions, **options)
    else:
        if study == "batch" and batches is None:
            options["batches"] = studies.doubling(max_batch)
        failed = time_runs(paths, **options) if paths else {}
    timed = [path for path in paths if path not in failed]
    table = studies.write_study(study, timed) if timed and study else ""
    differences = [difference(*pair) for pair in made.items() if not set(pair) & set(failed)]
    return Timing(timed, {**lost, **failed}, table, study == "precision", differences)


def check_study(study: str | None) -> None:
    """Raise ValueError for a study that there is not."""
    if study not in (None, *studies.STUDIES):
        known = ", ".join(studies.STUDIES)
        raise ValueError(f"study is {study!r}; it must be one of {known}")


def untrained_runs(trainings: Sequence[Settings], root: str | Path) -> list[Path]:
    """A directory ROOT/bare/LABEL-HASH with a config.yaml for each training, to be timed.

    Weights are random; nothing is downloaded for them.
    """
    paths = []
    for training in trainings:
        settings = settings_of(training) | {"name": "bare", "weights": UNTRAINED}
        backbone = settings["detector"]["backbone"]
        backbone |= {key: value for key, value in BEGUN.items() if key in backbone}
        path = directory(settings, root)
        write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        copy_proposer(settings, path)
        paths.append(path)
    return paths
