"""The charts: (data, styles, width in inches) -> matplotlib Figure, or None without the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from detzoo.report.palette import Style
from detzoo.report.runs import Run, dig, number, shorten
from detzoo.report.tables import contenders, digits

INK, PAPER = "#1b1f24", "#fefefe"  # the page's SVG gets its own colours in their place
STAGES = (
    "decode",
    "proposals",
    "preprocess",
    "transfer",
    "network",
    "postprocess",
    "restore",
)
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
    axes.set_ylim(bottom=max(bottom, -0.03 * top))  # nothing lies below 0, but markers reach there
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


def latency(
    by_name: Mapping[str, Sequence[Run]], styles: Mapping[str, Style], width: float
) -> Figure | None:
    """A bar of stage means for each detector, fastest on top, over a line from p50 to p90.

    Detectors that are far apart get bars of equal length: shares of their own time.
    """
    bars: dict[str, tuple[list[float], float, float]] = {}
    for name, runs in by_name.items():
        timed = [run.speed for run in runs if number(run.speed, "end_to_end", "p50") > 0]
        if timed:
            stages = [
                _average([number(s, "stages", stage, "mean") for s in timed]) for stage in STAGES
            ]
            p50, p90 = (
                _average([number(s, "end_to_end", p) for s in timed]) for p in ("p50", "p90")
            )
            bars[name] = ([0.0 if math.isnan(s) else s for s in stages], p50, p90)
    if not bars:
        return None
    order = sorted(bars, key=lambda name: bars[name][1])
    shares = bars[order[-1]][1] > FAR_APART * bars[order[0]][1]
    figure, axes = new_figure(width, 0.95 + 0.46 * len(order) + 0.6)
    colours = [colormaps["cividis"](x) for x in np.linspace(0.05, 1.0, len(STAGES))]
    for y, name in enumerate(order):
        means, p50, p90 = bars[name]
        if shares:
            means, p90 = [100 * mean / max(sum(means), 1e-9) for mean in means], math.nan
        left = 0.0
        for mean, colour in zip(means, colours, strict=True):
            axes.barh(y, mean, 0.5, left=left, color=colour, ec=INK, lw=0.5)
            left += mean
        style = styles[name]
        if not math.isnan(p90):
            axes.plot([p50, p90], [y + 0.37] * 2, color=style.colour, lw=1.6, solid_capstyle="butt")
            axes.plot([p50], [y + 0.37], "|", color=style.colour, ms=7, mew=2)
    labels = [shorten(name, 30 if width > 6 else 16) for name in order]
    if shares:
        labels = [f"{t}\n{digits(bars[n][1])} ms" for t, n in zip(labels, order, strict=True)]
    axes.set_yticks(range(len(order)), labels)
    for tick, name in zip(axes.get_yticklabels(), order, strict=True):
        tick.set_color(styles[name].colour)
        tick.set_fontweight("bold")
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("% of the time" if shares else "ms an image")
    handles = [Patch(fc=c, ec=INK, lw=0.5, label=s) for s, c in zip(STAGES, colours, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


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
    """AP of every class and detector as a heat table; n/a where there is no ground truth."""
    boxes: dict[str, float] = {}
    for runs in by_name.values():
        for run in runs:
            found = run.metrics.get("per_class")
            for name in found if isinstance(found, dict) else ():
                boxes.setdefault(name, number(found, name, "boxes"))
    if not boxes:
        return None
    often = sorted(boxes, key=lambda name: -np.nan_to_num(boxes[name], nan=-1.0))[:MOST_CLASSES]
    rows = [name for name in boxes if name in set(often)]
    values = np.array(
        [
            [
                _average([number(dig(r.metrics, "per_class", c), "AP") for r in runs])
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
    axes.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=top)
    small = 6.5 if len(by_name) > (16 if wide else 6) else 8.5
    for y, x in np.ndindex(*values.shape):
        value = values[y, x]
        text = "n/a" if math.isnan(value) else f"{value:.2f}"
        colour = INK if math.isnan(value) else ("#ffffff" if value < 0.5 * top else "#101010")
        cell = axes.text(x, y, text, ha="center", va="center", fontsize=small, color=colour)
        cell.set_in_layout(False)  # it lies inside; measuring hundreds of them takes long
    counts = ["" if math.isnan(boxes[c]) else f" ({boxes[c]:,.0f})" for c in rows]
    axes.set_yticks(
        range(len(rows)),
        [shorten(c, 26 if wide else 14) + n for c, n in zip(rows, counts, strict=True)],
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
    """Detectors below the axes, in as many columns as their names leave room for."""
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
    """As many as fit: about 11 characters an inch, and 8 for the line and the gap."""
    longest = max(len(_legend_name(name, width)) for name in names)
    return min(len(names), max(1, int(width * 11) // (longest + 8)))


def legend_height(names: Sequence[str], width: float) -> float:
    """Inches that a figure needs for its legend, so that this takes nothing from the axes."""
    return 0.1 + 0.18 * math.ceil(len(names) / _legend_columns(names, width))


def _arms(row: pd.Series, key: str) -> list[list[float]] | None:
    """The error bar's two lengths; none where there is no interval or it leaves the value out."""
    low, high = row[key] - row[f"{key}_low"], row[f"{key}_high"] - row[key]
    if math.isnan(low) or math.isnan(high):
        return None
    return [[max(0.0, low)], [max(0.0, high)]]


def _average(values: Sequence[float]) -> float:
    """The mean; NaN if any value is."""
    return sum(values) / len(values) if values else math.nan
