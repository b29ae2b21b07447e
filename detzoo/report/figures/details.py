"""Charts of the details behind AP: (details, styles, width in inches) -> matplotlib Figure or
None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from detzoo.metrics.bootstrap import RECALLS
from detzoo.metrics.calibration import Reliability
from detzoo.metrics.curves import THRESHOLDS
from detzoo.metrics.errors import KINDS, SUMS
from detzoo.metrics.thresholds import ALARM_RATES
from detzoo.report.analysis.detectors import IOUS, Detail
from detzoo.report.figures.fonts import drawable_names
from detzoo.report.figures.overview import (
    INK,
    PAPER,
    legend,
    legend_height,
    logarithmic,
    name_ticks,
    new_figure,
    text_on,
)
from detzoo.report.figures.palette import Style
from detzoo.report.load.values import shorten
from detzoo.report.tables.leaderboard import contenders

MOST_CONFUSED = 12  # classes of a confusion matrix; the rest is one
Details = Mapping[str, Detail]
Styles = Mapping[str, Style]


def percentiles(frame: pd.DataFrame, styles: Styles, width: float) -> Figure | None:
    """p50, p90 and p99 of the latency, a line for each detector, the fastest on top."""
    rows = contenders(frame).dropna(subset=["p50_ms", "p90_ms", "p99_ms"])
    rows = rows[rows["p50_ms"] > 0].sort_values("p50_ms", kind="stable")
    if rows.empty:
        return None
    figure, axes = new_figure(width, 0.85 + 0.3 * len(rows))
    for y, (_, row) in enumerate(rows.iterrows()):
        colour = styles[row["detector"]].colour
        axes.plot([row["p50_ms"], row["p99_ms"]], [y, y], color=colour, lw=2)
        for key, marker in (("p50_ms", "o"), ("p90_ms", "D"), ("p99_ms", "|")):
            axes.plot(row[key], y, marker, color=colour, ms=9 if marker == "|" else 5.5, mew=1.6)
    logarithmic(axes, [*rows["p50_ms"], *rows["p99_ms"]], width)
    _names(axes, [str(name) for name in rows["detector"]], styles, width)
    axes.set_xlabel("ms an image: \N{BLACK CIRCLE} p50, \N{BLACK DIAMOND} p90, | p99")
    return figure


def errors(details: Details, styles: Styles, width: float) -> Figure | None:
    """AP50 lost to each kind of error and to the two sums, one panel each, one bar a detector."""
    known = {n: d for n, d in details.items() if d.errors["missed"].dap is not None}
    if not known:
        return None
    across = 4 if width > 6 else 2
    kinds = (*KINDS, *SUMS)
    down = math.ceil(len(kinds) / across)
    figure = Figure(figsize=(width, 0.3 + down * (0.75 + 0.19 * len(known))), layout="constrained")
    panels = figure.subplots(down, across, sharey=True)
    highest = [max(_dap(d, kind) for d in known.values() for kind in of) for of in (KINDS, SUMS)]
    for axes, kind in zip(panels.flat, kinds, strict=True):
        for y, (name, detail) in enumerate(known.items()):
            axes.barh(y, _dap(detail, kind), 0.74, color=styles[name].colour)
        # The kinds share one scale and the sums another, so that lengths can be compared
        axes.set_xlim(min(0, axes.get_xlim()[0]), 1.08 * max(highest[kind in SUMS], 0.01))
        axes.set_title(kind, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.grid(False, axis="y")
    for axes in panels[:, 0]:
        _names(axes, list(known), styles, width)
    figure.supxlabel("AP50 to be gained without it", fontsize=9)
    return figure


def _dap(detail: Detail, kind: str) -> float:
    value = detail.errors[kind].dap
    return math.nan if value is None else value


def precision_recall(details: Details, styles: Styles, width: float) -> Figure | None:
    """Precision at each recall, the mean over classes, at two IoU thresholds."""
    known = {name: d for name, d in details.items() if not np.isnan(d.pr).all()}
    if not known:
        return None
    figure, panels = _two_panels(list(known), width)
    for row, (axes, iou) in enumerate(zip(panels, IOUS, strict=True)):
        for name, detail in known.items():
            style = styles[name]
            axes.plot(RECALLS, detail.pr[row], ls=style.line, color=style.colour, lw=1.5)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall")
        axes.set_title(f"IoU {iou:.2f}", fontsize=9)
    for axes in panels[:1] if width > 6 else panels:
        axes.set_ylabel("precision")
    legend(figure, list(known), styles, width, lines=True)
    return figure


def f1(details: Details, styles: Styles, width: float) -> Figure | None:
    """F1 on the test set at each score threshold; a marker where val would have it used."""
    known = {name: d for name, d in details.items() if not np.isnan(d.f1).all()}
    if not known:
        return None
    figure, axes = new_figure(width, 3.0 + legend_height(list(known), width))
    for name, detail in known.items():
        style = styles[name]
        axes.plot(THRESHOLDS, detail.f1, ls=style.line, color=style.colour, lw=1.5)
        if detail.point.threshold is not None and detail.point.test["f1"] is not None:
            axes.plot(
                detail.point.threshold,
                detail.point.test["f1"],
                style.marker,
                color=style.colour,
                ms=8,
                mec=PAPER,
                mew=0.8,
            )
    axes.set(xlim=(0, 1), xlabel="score threshold", ylabel="F1 (mean over classes, IoU 0.50)")
    axes.set_ylim(bottom=0)
    legend(figure, list(known), styles, width, lines=True)
    return figure


def froc(details: Details, styles: Styles, width: float) -> Figure | None:
    """Recall against false alarms an image on the test set; markers as in `f1`."""
    known = {name: d for name, d in details.items() if np.nansum(d.deployment.froc) > 0}
    if not known:
        return None
    figure, axes = new_figure(width, 3.0 + legend_height(list(known), width))
    for name, detail in known.items():
        style = styles[name]
        axes.plot(ALARM_RATES, detail.deployment.froc, ls=style.line, color=style.colour, lw=1.5)
        alarms, recall = (detail.point.test[key] for key in ("false_alarms", "recall"))
        if alarms is not None and recall is not None and alarms >= ALARM_RATES[0]:
            look = {"ms": 8, "mec": PAPER, "mew": 0.8}
            axes.plot(alarms, recall, style.marker, color=style.colour, **look)
    logarithmic(axes, ALARM_RATES, width)
    axes.set(xlabel="false alarms an image", ylabel="recall (all objects, IoU 0.50)")
    axes.set_ylim(bottom=0)
    legend(figure, list(known), styles, width, lines=True)
    return figure


def confusion(details: Details, styles: Styles, width: float) -> Figure | None:
    """A matrix for each detector: true classes down, predicted classes across."""
    if not details:
        return None
    across = min(len(details), 3 if width > 6 else 2)
    down = math.ceil(len(details) / across)
    first = next(iter(details.values()))
    names, keep = _most_boxes(first)
    side = width / across
    height = down * (0.86 * side + 0.25) + 0.2
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    drawn = drawable_names(first.problem.class_names)
    labels = [shorten(drawn.get(name, name), 14) for name in (*names, "background")]
    size = max(4.0, min(7.5, 24 * side / len(labels)))  # of letters, about a third of a cell
    for axes, (name, detail) in zip(panels.flat, details.items(), strict=False):
        matrix = _pooled(detail.confusion, keep)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for y, x in np.ndindex(*matrix.shape):
            if matrix[y, x]:
                colour = text_on(image.cmap(share[y, x]))
                count = f"{matrix[y, x]:,}" if matrix[y, x] < 10_000 else f"{matrix[y, x]:.0e}"
                cell = axes.text(
                    x, y, count, ha="center", va="center", fontsize=size - 1, color=colour
                )
                cell.set_in_layout(False)
        _title(axes, name, styles, side)
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(len(labels)), labels, fontsize=size)
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    _used(panels, len(details))
    figure.supylabel("true class", fontsize=9)
    figure.supxlabel("taken for", fontsize=9)
    return figure


def _used(panels: np.ndarray, count: int) -> None:
    """Hide the panels after the first `count`; the lowest one left in a column has its numbers."""
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    for axes in panels.flat[max(0, count - panels.shape[1]) : count]:
        axes.tick_params(labelbottom=True)


def _most_boxes(detail: Detail) -> tuple[list[str], list[list[int]]]:
    """Names and class indices of the rows: each class, or the commonest and the rest as one."""
    names = list(detail.problem.class_names)
    count = detail.problem.count(~detail.problem.crowd).sum(axis=1)
    if len(names) <= MOST_CONFUSED:
        return names, [[i] for i in range(len(names))]
    often = np.argsort(-count, kind="stable")
    kept = sorted(int(i) for i in often[: MOST_CONFUSED - 1])
    rest = [i for i in range(len(names)) if i not in kept]
    return [*(names[i] for i in kept), f"{len(rest)} others"], [*([i] for i in kept), rest]


def _pooled(matrix: np.ndarray, keep: Sequence[Sequence[int]]) -> np.ndarray:
    """The (K + 1, K + 1) matrix with the classes of each list as one; background stays last."""
    lists = [*keep, [len(matrix) - 1]]
    rows = np.stack([matrix[of].sum(axis=0) for of in lists])
    return np.stack([rows[:, of].sum(axis=1) for of in lists], axis=1)


def reliability(details: Details, styles: Styles, width: float) -> Figure | None:
    """A panel for each detector: precision and mean IoU of detections against their score, and the
    diagonal of perfect calibration."""
    known = {name: d for name, d in details.items() if d.d_ece.error is not None}
    if not known:
        return None
    across = min(len(known), 4 if width > 6 else 2)
    down = math.ceil(len(known) / across)
    figure = Figure(figsize=(width, 0.45 + down * (0.92 * width / across)), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes, (name, detail) in zip(panels.flat, known.items(), strict=False):
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        colour = styles[name].colour
        _bins(axes, detail.d_ece, colour, "-", "o")
        _bins(axes, detail.laece0.pooled, colour, "--", "D")
        _title(axes, name, styles, width / across)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    _used(panels, len(known))
    figure.supxlabel("score", fontsize=9)
    figure.supylabel("precision (—), mean IoU (- -)", fontsize=9)
    return figure


def _bins(axes: Axes, of: Reliability, colour: str, line: str, marker: str) -> None:
    """Points as large as their bins are full."""
    full = of.count > 0
    x, y, count = of.confidence[full], of.achieved[full], of.count[full]
    axes.plot(x, y, line, color=colour, lw=1.2)
    size = 3 + 27 * count / max(count.max(initial=1), 1)
    axes.scatter(x, y, size, color=colour, marker=marker, lw=0, zorder=3)


def _title(axes: Axes, name: str, styles: Styles, inches: float) -> None:
    """The detector above its panel behind its mark, as much of its name as fits."""
    axes.set_title(f"    {shorten(name, int(8.5 * inches) - 3)}", fontsize=9, loc="left")
    place = offset_copy(axes.transAxes, axes.figure, x=4, y=9, units="points")
    look = styles[name]
    mark = axes.plot(
        [0], [1], look.marker, color=look.colour, ms=5, mew=0, transform=place, clip_on=False
    )
    mark[0].set_in_layout(False)


def _two_panels(names: Sequence[str], width: float) -> tuple[Figure, np.ndarray]:
    beside = width > 6
    height = (3.0 if beside else 5.0) + legend_height(names, width)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(*((1, 2) if beside else (2, 1)), sharey=True)


def _names(axes: Axes, names: Sequence[str], styles: Styles, width: float) -> None:
    """Detectors down the y axis, the first on top."""
    name_ticks(axes, names, styles, width)
    axes.set_ylim(len(names) - 0.4, -0.6)
