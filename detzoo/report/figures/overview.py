"""The charts: (data, styles, width in inches) -> matplotlib Figure, or None without the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import offset_copy

from detzoo.report.figures.fonts import drawable_names
from detzoo.report.figures.palette import Style
from detzoo.report.load.runs import Run
from detzoo.report.load.values import dig, number, shorten
from detzoo.report.tables.leaderboard import contenders

INK, PAPER = "#1b1f24", "#fefefe"  # the page's SVG gets its own colours in their place
MOST_CLASSES = 40
FAR_APART = 8.0  # where the largest is that many times the smallest, a linear axis hides it
_PLAIN = FuncFormatter(lambda x, _: f"{round(x, 9):,g}")


def speed_accuracy(frame: pd.DataFrame, styles: Mapping[str, Style], width: float) -> Figure | None:
    """AP against median latency with both intervals, and the Pareto front."""
    rows = contenders(frame).dropna(subset=["AP", "p50_ms"])
    rows = rows[rows["p50_ms"] > 0]
    if rows.empty:
        return None
    figure, axes = new_figure(width, 3.0 + legend_height(list(rows["detector"]), width))
    for _, row in frame[frame["kind"] == "run"].dropna(subset=["AP", "p50_ms"]).iterrows():
        style = styles[row["detector"]]
        if row["detector"] in set(rows.loc[rows["kind"] == "mean", "detector"]):
            axes.plot(
                row["p50_ms"], row["AP"], style.marker, color=style.colour, alpha=0.45, ms=4, mew=0
            )
    front = pareto(rows["p50_ms"].to_numpy(), rows["AP"].to_numpy())
    if len(front) > 1:
        points = rows.iloc[front]
        axes.step(points["p50_ms"], points["AP"], where="post", ls=":", lw=1.3, color=INK, zorder=1)
    for _, row in rows.iterrows():
        style = styles[row["detector"]]
        axes.errorbar(
            row["p50_ms"],
            row["AP"],
            xerr=_arms(row, "p50_ms"),
            yerr=_arms(row, "AP"),
            fmt=style.marker,
            color=style.colour,
            ms=8,
            mec=PAPER,
            mew=0.8,
            elinewidth=1.4,
            capsize=3,
        )
    times = frame.loc[frame["p50_ms"] > 0, "p50_ms"]
    if not logarithmic(axes, times, width):
        axes.set_xlim(
            left=0, right=1.06 * max(times.max(), rows["p50_ms_high"].max(skipna=True) or 0)
        )
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom=max(bottom, -0.03 * top))  # nothing is below 0, but markers reach there
    axes.set_xlabel("median latency, end to end, batch 1 (ms)")
    axes.set_ylabel("AP")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    legend(figure, [str(name) for name in rows["detector"]], styles, width, lines=False)
    return figure


def logarithmic(axes: Axes, values: Iterable[float], inches: float) -> bool:
    """Make the x axis logarithmic, with plain numbers, where `values` (> 0) differ too much."""
    ratio = max(values) / min(values)
    if ratio > FAR_APART:
        axes.set_xscale("log")
        left, right = axes.get_xlim()
        crowded = inches < 6 and right > 60 * left
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if crowded else (1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(_PLAIN)
    return ratio > FAR_APART


def pareto(cost: np.ndarray, gain: np.ndarray) -> list[int]:
    """Indices of the points that no other one beats (less cost, more gain), by rising cost."""
    front: list[int] = []
    for i in np.lexsort((-gain, cost)):
        if not front or gain[i] > gain[front[-1]]:
            front.append(int(i))
    return front


def recall_curve(frame: pd.DataFrame, title: str, width: float = 6.0) -> Figure:
    """Recall against the number of proposals: a line for every column `recall@IOU`."""
    figure, axes = new_figure(width, 3.4)
    for column, marker in zip(frame.filter(like="recall@"), "osD^v", strict=False):
        axes.plot(frame["proposals"], frame[column], f"{marker}-", label=column, ms=5)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("proposals an image")
    axes.set_ylabel("part of the objects that are covered")
    axes.set_title(title)
    axes.legend(loc="lower right")
    return figure


def curves(
    by_name: Mapping[str, Sequence[Run]], styles: Mapping[str, Style], width: float
) -> Figure | None:
    """AP against images seen and against training time, one line a run."""
    drawn = {name: [run for run in runs if run.curve] for name, runs in by_name.items()}
    drawn = {name: runs for name, runs in drawn.items() if runs}
    if not drawn:
        return None
    side_by_side = width > 6
    height = (2.8 if side_by_side else 4.8) + legend_height(list(drawn), width)
    figure = Figure(figsize=(width, height), layout="constrained")
    shape = (1, 2) if side_by_side else (2, 1)
    panels = figure.subplots(*shape, sharey=True)
    for axes, key, label in zip(
        panels, ("images_seen", "seconds"), ("images seen", "training time (s)"), strict=True
    ):
        for name, runs in drawn.items():
            style = styles[name]
            for run in runs:
                points = [(p[key], p["AP"]) for p in run.curve if not math.isnan(p[key])]
                axes.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    ls=style.line,
                    marker=style.marker,
                    ms=4,
                    lw=1.5,
                    color=style.colour,
                )
        ends = [run.curve[-1][key] for runs in drawn.values() for run in runs]
        ends = [end for end in ends if end > 0] or [1.0]
        if not logarithmic(axes, ends, width / 2 if side_by_side else width):
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(_PLAIN)
        axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])
        axes.set_xlabel(label)
    for axes in panels[:1] if side_by_side else panels:
        axes.set_ylabel("AP (val)")
    legend(figure, list(drawn), styles, width, lines=True)
    return figure


def classes(by_name: Mapping[str, Sequence[Run]], width: float) -> Figure | None:
    """AP of every class that has boxes, and detector, as a heat table."""
    boxes: dict[str, float] = {}
    for runs in by_name.values():
        for run in runs:
            found = run.metrics.get("per_class")
            for name in found if isinstance(found, dict) else ():
                boxes.setdefault(name, number(found, name, "boxes"))
    drawn = drawable_names(list(boxes))
    boxes = {name: count for name, count in boxes.items() if count != 0}
    if not boxes:
        return None
    often = sorted(boxes, key=lambda name: -np.nan_to_num(boxes[name], nan=-1.0))[:MOST_CLASSES]
    rows = [name for name in boxes if name in set(often)]
    values = np.array(
        [
            [
                average([number(dig(r.metrics, "per_class", c), "AP") for r in runs])
                for runs in by_name.values()
            ]
            for c in rows
        ]
    )
    wide = width > 6
    crowded = len(by_name) > (12 if wide else 5)
    names = 0.1 if crowded else 0.055
    height = 0.6 + 0.27 * len(rows) + names * min(24, max(map(len, by_name)))
    figure, axes = new_figure(width, height)
    top = math.ceil(10 * np.nanmax(values, initial=0.1)) / 10
    image = axes.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=top)
    small = 6.5 if len(by_name) > (16 if wide else 6) else 8.5
    for y, x in np.ndindex(*values.shape):
        value = values[y, x]
        text = "n/a" if math.isnan(value) else f"{value:.2f}"
        colour = INK if math.isnan(value) else text_on(image.cmap(image.norm(value)))
        cell = axes.text(x, y, text, ha="center", va="center", fontsize=small, color=colour)
        cell.set_in_layout(False)  # it is inside; measuring hundreds of them takes long
    counts = ["" if math.isnan(boxes[c]) else f" ({boxes[c]:,.0f})" for c in rows]
    axes.set_yticks(
        range(len(rows)),
        [shorten(drawn[c], 26 if wide else 14) + n for c, n in zip(rows, counts, strict=True)],
    )
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    if crowded:
        turned = {"rotation": 90}
    axes.set_xticks(range(len(by_name)), [shorten(name, 24) for name in by_name], **turned)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def legend(
    figure: Figure, names: Sequence[str], styles: Mapping[str, Style], width: float, lines: bool
) -> None:
    """A legend of detectors below the axes, in as many columns as fit."""
    labels = [_legend_name(name, width) for name in names]
    handles = [
        Line2D(
            [],
            [],
            color=styles[name].colour,
            marker=styles[name].marker,
            ls=styles[name].line if lines else "none",
            label=label,
        )
        for name, label in zip(names, labels, strict=True)
    ]
    columns = _legend_columns(names, width)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _legend_name(name: str, width: float) -> str:
    return shorten(name, 40 if width > 6 else 30)


def _legend_columns(names: Sequence[str], width: float) -> int:
    """The number of columns: about 11 characters per inch, and 8 for the line and the gap."""
    longest = max(len(_legend_name(name, width)) for name in names)
    return min(len(names), max(1, int(width * 11) // (longest + 8)))


def legend_height(names: Sequence[str], width: float) -> float:
    """Inches that a figure needs for its legend, so that this takes nothing from the axes."""
    return 0.1 + 0.18 * math.ceil(len(names) / _legend_columns(names, width))


def name_ticks(
    axes: Axes,
    names: Sequence[str],
    styles: Mapping[str, Style],
    width: float,
    below: Sequence[str] | None = None,
) -> None:
    """Detectors down the y axis in ink, each behind its mark. below: a second line of each."""
    labels = [shorten(name, 30 if width > 6 else 18) for name in names]
    if below:
        labels = [f"{name}\n{text}" for name, text in zip(labels, below, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(axis="y", length=0, pad=14)
    axes.grid(False, axis="y")
    place = offset_copy(axes.get_yaxis_transform(), axes.figure, x=-8, units="points")
    for y, name in enumerate(names):
        look = styles[name]
        mark = axes.plot(
            [0], [y], look.marker, color=look.colour, ms=5, mew=0, transform=place, clip_on=False
        )
        mark[0].set_in_layout(False)


def text_on(rgb: Sequence[float]) -> str:
    """Black or white, whichever has the larger contrast (never below 4.5) on a colour in [0, 1]."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb[:3]]
    luminance = sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def _arms(row: pd.Series, key: str) -> list[list[float]] | None:
    """The error bar's two lengths; none without an interval, or where it excludes the value."""
    low, high = row[key] - row[f"{key}_low"], row[f"{key}_high"] - row[key]
    if math.isnan(low) or math.isnan(high):
        return None
    return [[max(0.0, low)], [max(0.0, high)]]


def average(values: Sequence[float]) -> float:
    """The mean; NaN if any value is."""
    return sum(values) / len(values) if values else math.nan
