"""One row a run, and a mean where a detector has several, as DataFrame, CSV, Markdown and text.

Accuracies are in [0, 1], times in ms (training: s), memory in MB, intervals 95% and (low, high).
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from detzoo.catalogue import licences
from detzoo.report.load.effort import budget_of, effort_of
from detzoo.report.load.protocols import Group, group_runs, name_detectors, start_of
from detzoo.report.load.runs import Run, load_all
from detzoo.report.load.values import clean, dig, interval, number

LEAST = 0.001  # an AP below it is no result, with any interval
ACCURACIES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


@dataclass(frozen=True)
class Column:
    """One number of a row. key: in the DataFrame; scale: shown = value / scale.

    main: one of the few that most readers need; the page has the others behind "all columns".
    """

    key: str
    title: str
    help: str
    higher_is_better: bool | None
    kind: str = "plain"  # accuracy | plain | whole | rank
    scale: float = 1.0
    main: bool = False


def _accuracy(key: str, text: str, main: bool = False) -> Column:
    return Column(key, key, text, True, "accuracy", main=main)


COLUMNS = (
    Column(
        "rank",
        "rank",
        "by AP; a range where the paired test cannot separate (Holm's correction, 5%)",
        False,
        "rank",
        main=True,
    ),
    _accuracy("AP", "average precision in [0, 1], mean over classes and IoU 0.50 to 0.95", True),
    _accuracy("AP50", "average precision at IoU 0.50", True),
    _accuracy("F1", "at the detector's own score threshold, mean over classes, IoU 0.50", True),
    _accuracy("AP75", "average precision at IoU 0.75"),
    _accuracy("APs", "AP of objects below 32 x 32 pixels"),
    _accuracy("APm", "AP of objects from 32 x 32 to 96 x 96 pixels"),
    _accuracy("APl", "AP of objects above 96 x 96 pixels"),
    _accuracy("AR100", "average recall at 100 detections an image"),
    Column(
        "p50_ms", "p50 ms", "median latency from encoded bytes to boxes, batch 1", False, main=True
    ),
    Column("p90_ms", "p90 ms", "90th percentile of the latency", False),
    Column("p99_ms", "p99 ms", "99th percentile of the latency", False),
    Column("proposals_ms", "prop. ms", "of that, external proposals (median)", False),
    Column("images_per_second", "img/s", "images a second at the best batch size", True, main=True),
    Column(
        "overhead",
        "overhead",
        "end to end without JPEG decoding over network alone, median over passes",
        False,
    ),
    Column("gmacs", "GMACs", "multiply-accumulates of the network, in 1e9", False),
    Column("parameters", "M params", "parameters, in millions", None, scale=1e6),
    Column("peak_memory_mb", "peak MB", "peak memory while timed", False),
    Column("train_seconds", "train min", "training time in minutes", False, scale=60, main=True),
    Column("images_seen", "images seen", "images that the training saw", None, "whole"),
    Column("trials", "trials", "of its settings, before the training", None, "whole"),
    Column("tuning_images", "tuned on", "images that all trials saw together", None, "whole"),
    Column("code_licence", "code", "licence of what computes it", None, "text"),
    Column("weights_licence", "weights", "licence of what its training began with", None, "text"),
    Column("data_licence", "data", "terms of what those weights had seen", None, "text"),
)
_LIMITS = tuple(f"{key}_{side}" for key in (*ACCURACIES, "p50_ms") for side in ("low", "high"))
_WHOLE = ("table", "runs", "images", "groups", "throughput_batch", "parameters", "images_seen")
_WHOLE += ("rank", "rank_worst", "trials", "tuning_images")
ORDER = ("table", "detector", "kind", "seed", "start", "runs", "state")
ORDER += (*(c.key for c in COLUMNS), *_LIMITS)
ORDER += (
    "threshold",
    "precision",
    "recall",
    "rank_worst",
    "budget",
    "AP_sd",
    "throughput_batch",
    "network_ms",
    "images",
    "groups",
    "run",
    "path",
)


def _row(run: Run, name: str) -> dict[str, object]:
    """One run as the DataFrame's row."""
    metrics, speed, effort = run.metrics, run.speed, effort_of(run)
    row: dict[str, object] = {key: number(metrics, key) for key in ACCURACIES}
    for key in ACCURACIES:
        low, high = interval(metrics, "intervals", key)
        # Earlier versions gave few images a point, which `Analysis.complete` replaces.
        row[f"{key}_low"], row[f"{key}_high"] = (low, high) if high > low else (math.nan, math.nan)
    for p in ("p50", "p90", "p99"):
        row[f"{p}_ms"] = number(speed, "end_to_end", p)
    row["p50_ms_low"], row["p50_ms_high"] = interval(speed, "end_to_end", "interval")
    row |= {
        # who needs none has taken none, but the clock's own microseconds are in that stage too
        "proposals_ms": number(speed, "stages", "proposals", "p50")
        if dig(speed, "proposer")
        else math.nan,
        "network_ms": number(speed, "stages", "network", "p50"),
        "overhead": number(speed, "overhead", "p50"),
        "images_per_second": number(speed, "throughput", "images_per_second"),
        "throughput_batch": number(speed, "throughput", "batch"),
        "train_seconds": number(run.status, "train_seconds"),
        "images_seen": run.images_seen,
        "trials": effort.trials if effort else math.nan,
        "tuning_images": effort.total if effort else math.nan,
        "budget": budget_of(dig(run.config, "recipe")),
        "images": number(metrics, "images"),
        "groups": number(metrics, "groups", "number"),
        "AP_sd": math.nan,
        "rank": math.nan,
        "rank_worst": math.nan,
        **dict.fromkeys(("F1", "threshold", "precision", "recall"), math.nan),
    }
    row |= {key: number(speed, key) for key in ("gmacs", "parameters", "peak_memory_mb")}
    seed = "external" if run.external else run.seed
    terms = {} if run.external else licences(run.config)
    row |= {f"{of}_licence": clean(terms.get(of, "n/a"), 120) for of in ("code", "weights", "data")}
    labels = {"detector": name, "kind": "run", "seed": seed, "runs": 1, "state": run.state}
    labels["start"] = "external" if run.external else start_of(run) or "not recorded"
    return row | labels | {"run": clean(run.path.name, 200), "path": clean(run.path, 1000)}


def _mean(rows: Sequence[dict[str, object]]) -> dict[str, object]:
    """Several runs of one detector as one row.

    A number that any run lacks is n/a. The interval is the envelope of the runs' intervals: never
    narrower than one of them, and it covers the variation between seeds. `Analysis.complete`
    replaces it with the bootstrap over images and seeds.
    """
    frame = pd.DataFrame(list(rows))
    numbers = frame.select_dtypes("number")
    row: dict[str, object] = dict(numbers.mean(skipna=False))
    for key in _LIMITS:
        row[key] = (frame[key].min if key.endswith("_low") else frame[key].max)(skipna=False)
    row |= {"AP_sd": frame["AP"].std(ddof=1, skipna=False), "runs": len(rows), "kind": "mean"}
    row |= {key: rows[0][key] for key in ("detector", "budget")}
    row |= {"seed": ", ".join(str(r["seed"]) for r in rows)}
    row |= {key: rows[0][key] for key in rows[0] if key.endswith("_licence")}
    states, starts = (", ".join(dict.fromkeys(str(r[k]) for r in rows)) for k in ("state", "start"))
    return row | {"state": states, "start": starts, "run": "", "path": ""}


def group_frame(group: Group, called: dict[Run, str], index: int = 1) -> pd.DataFrame:
    """One table: detectors by falling AP (n/a last); a detector's mean comes before its runs."""
    by_detector: dict[str, list[dict[str, object]]] = {}
    for run in group.runs:
        by_detector.setdefault(called[run], []).append(_row(run, called[run]))
    blocks = [[_mean(rows), *rows] if len(rows) > 1 else rows for rows in by_detector.values()]
    blocks.sort(key=lambda rows: (math.isnan(rows[0]["AP"]), -rows[0]["AP"]))  # type: ignore
    frame = pd.DataFrame([row for rows in blocks for row in rows])
    frame["table"] = index
    for key in _WHOLE:
        values = frame[key].dropna()
        if (values % 1 == 0).all() and (values.abs() < 2**53).all():
            frame[key] = frame[key].astype("Int64")
    return frame[list(ORDER)]


def table(run_dirs: Iterable[str | Path]) -> pd.DataFrame:
    """Every run that has an accuracy, full precision, columns ORDER; `table` numbers the protocols.

    Rows of different `table` must not be compared. kind is "run" or, where a detector has several
    runs, also "mean". Raises ValueError if no run directory is given.
    """
    runs = load_all(run_dirs)
    called = name_detectors(runs)
    return concat([group_frame(g, called, i) for i, g in enumerate(group_runs(runs), start=1)])


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All tables in one frame; with its columns even when there is no row."""
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(ORDER))


def contenders(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a detector: its mean where it has one, its only run otherwise."""
    several = frame.loc[frame["kind"] == "mean", "detector"]
    return frame[(frame["kind"] == "mean") | ~frame["detector"].isin(several)]


def is_noise(frame: pd.DataFrame) -> bool:
    """Whether there are APs and all are below LEAST."""
    known = frame["AP"].dropna()
    return len(known) > 0 and bool((known < LEAST).all())


def seed_text(row: pd.Series) -> str:
    return f"mean of {row['runs']}" if row["kind"] == "mean" else str(row["seed"])


def columns(frame: pd.DataFrame) -> list[Column]:
    """COLUMNS, without ranks, F1, proposals and trials where no row has any."""
    rare = ("rank", "F1", "proposals_ms", "trials", "tuning_images")
    return [c for c in COLUMNS if c.key not in rare or frame[c.key].notna().any()]


def format_cell(column: Column, row: pd.Series) -> str:
    """A row's number as the tables print it; a rank as `2` or `2-4`."""
    if column.kind != "rank" or pd.isna(row["rank"]):
        return format_number(column, row[column.key])
    best, worst = int(row["rank"]), int(row["rank_worst"])
    return str(best) if best == worst else f"{best}-{worst}"


def format_number(column: Column, value: object) -> str:
    """A number as the tables print it; n/a for what is none."""
    if value is None or pd.isna(value):
        return "n/a"
    if column.kind == "text":
        return str(value)
    number_ = float(value) / column.scale  # type: ignore[arg-type]
    if column.kind == "accuracy":
        return f"{number_:.3f}"
    if column.kind in ("whole", "rank"):
        return f"{number_:,.0f}"
    return format_digits(number_)


def format_digits(value: float) -> str:
    """Three significant digits without an exponent: 0.123, 1.23, 12.3, 1,234."""
    places = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{places}f}"


def format_limits(column: Column, row: pd.Series) -> str:
    """The interval as `[low, high]`, empty where there is none."""
    low, high = row.get(f"{column.key}_low"), row.get(f"{column.key}_high")
    if low is None or pd.isna(low) or pd.isna(high):
        return ""
    return f"[{format_number(column, low)}, {format_number(column, high)}]"


def csv(frame: pd.DataFrame) -> str:
    """The frame at full precision (floats round-trip); n/a for what is none."""
    return frame.to_csv(index=False, na_rep="n/a", lineterminator="\n")


def markdown(frame: pd.DataFrame) -> str:
    """One table as Markdown, intervals beside the values, names unable to break it."""
    shown_columns = columns(frame)
    heads = ["detector", "seed", "start", *(column.title for column in shown_columns)]
    lines = [heads, ["---", "---", "---", *("--:" for _ in shown_columns)]]
    for _, row in frame.iterrows():
        cells = [f"{format_cell(c, row)} {format_limits(c, row)}".strip() for c in shown_columns]
        labels = (str(row["detector"]), seed_text(row), str(row["start"]))
        lines.append([*map(escape, labels), *cells])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def escape(text: str) -> str:
    """Text that Markdown prints as it is."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def align(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows of cells as lines, columns as wide as they must be; the first `left` to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        " ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
