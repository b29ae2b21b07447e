"""Where the time goes: a bar of stages for each detector, its median, its 90th percentile and the
passes far beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from detzoo.report.analysis.tails import outliers
from detzoo.report.figures.overview import FAR_APART, INK, average, name_ticks, new_figure
from detzoo.report.figures.palette import Style
from detzoo.report.load.runs import Run
from detzoo.report.load.values import number
from detzoo.report.tables.leaderboard import format_digits

STAGES = ("decode", "proposals", "preprocess", "transfer", "network", "postprocess", "restore")


def latency(
    by_name: Mapping[str, Sequence[Run]], styles: Mapping[str, Style], width: float
) -> Figure | None:
    """Medians of the stages, the fastest detector on top; sorted by the median of the whole, which
    the tick shows; the line reaches to p90, dots are passes of more than 3 times the median.

    Detectors whose times differ widely get bars of equal length: shares of their own time.
    """
    bars: dict[str, tuple[list[float], float, float]] = {}
    slow: dict[str, list[float]] = {}
    for name, runs in by_name.items():
        timed = [run for run in runs if number(run.speed, "end_to_end", "p50") > 0]
        if timed:
            stages = [average([number(r.speed, "stages", s, "p50") for r in timed]) for s in STAGES]
            p50, p90 = (
                average([number(r.speed, "end_to_end", p) for r in timed]) for p in ("p50", "p90")
            )
            bars[name] = ([0.0 if math.isnan(s) else s for s in stages], p50, p90)
            slow[name] = outliers(timed)
    if not bars:
        return None
    order = sorted(bars, key=lambda name: bars[name][1])
    shares = bars[order[-1]][1] > FAR_APART * bars[order[0]][1]
    figure, axes = new_figure(width, 0.95 + 0.46 * len(order) + 0.6)
    colours = [colormaps["cividis"](x) for x in np.linspace(0.05, 1.0, len(STAGES))]
    far = 1.06 * max(np.nanmax([*of[1:], sum(of[0])]) for of in bars.values())
    for y, name in enumerate(order):
        stages, p50, p90 = bars[name]
        if shares:
            stages = [100 * stage / max(sum(stages), 1e-9) for stage in stages]
        left = 0.0
        for stage, colour in zip(stages, colours, strict=True):
            axes.barh(y, stage, 0.5, left=left, color=colour, ec=INK, lw=0.5)
            left += stage
        if not shares:
            axes.plot([p50, p90], [y + 0.36] * 2, color=INK, lw=1.4, solid_capstyle="butt")
            axes.plot([p50], [y + 0.36], "|", color=INK, ms=7, mew=2)
            _outliers(axes, y, slow[name], far)
    labels = None
    if shares:
        labels = [f"{format_digits(bars[name][1])} ms" for name in order]
    name_ticks(axes, order, styles, width, below=labels)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 100 if shares else far)
    axes.set_xlabel("% of the time" if shares else "ms an image")
    handles = [Patch(fc=c, ec=INK, lw=0.5, label=s) for s, c in zip(STAGES, colours, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _outliers(axes: Axes, y: int, slow: Sequence[float], far: float) -> None:
    """Dots; those beyond the axis are counted at its end."""
    near = [ms for ms in slow if ms <= far]
    axes.plot(near, [y - 0.36] * len(near), "o", color=INK, ms=2.5, mew=0, alpha=0.7)
    if beyond := len(slow) - len(near):
        text = f"{beyond} up to {format_digits(slow[0])} \N{RIGHTWARDS ARROW}"
        axes.text(far, y - 0.36, text, ha="right", va="center", fontsize=7, color=INK)
