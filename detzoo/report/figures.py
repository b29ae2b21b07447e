"""Figures of one table, drawn for paper (SVG and PNG files) and for the page (SVG in its colours).

Every figure is a function of (data, styles, width in inches) to a matplotlib Figure; nothing global
is touched. Text becomes outlines, so that it cannot reflow and overlap where a font is missing.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from detzoo.report.palette import Style
from detzoo.report.runs import Run, dig, number, shorten
from detzoo.report.tables import contenders

INK, PAPER = "#1b1f24", "#fefefe"  # the page's SVG gets its own colours in their place
WIDE, NARROW = 6.4, 3.9  # inches at 96 px: for a desk, for a phone
STAGES = ("decode", "preprocess", "transfer", "network", "postprocess", "restore")
MOST_CLASSES = 60
_RC = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.alpha": 0.18,
    "grid.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "detzoo",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": INK,
    "ytick.color": INK,
}


_PLAIN = FuncFormatter(lambda x, _: f"{round(x, 9):,g}")


@dataclass(frozen=True)
class Drawing:
    """One figure in all its forms. svg, png: files; wide, narrow: SVG elements for the page."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    wide: str
    narrow: str


def draw(
    runs: Sequence[Run],
    frame: pd.DataFrame,
    called: Mapping[Run, str],
    styles: Mapping[str, Style],
    suffix: str = "",
) -> list[Drawing]:
    """Every figure that one table's runs have the numbers for. suffix: ends their names."""
    by_name: dict[str, list[Run]] = {}
    for name in contenders(frame)["detector"]:
        by_name[str(name)] = [run for run in runs if called[run] == name]
    seeds = any(len(members) > 1 for members in by_name.values())
    jobs: list[tuple[str, str, str, Callable[[float], Figure | None]]] = [
        (
            "speed-accuracy",
            "Speed against accuracy",
            "Up and left is better. Bars are 95% intervals on both axes; the dotted line is the "
            "Pareto front of the values themselves: it does not know the intervals."
            + (
                " Faint points are single seeds; the bars of a mean reach around all of them."
                * seeds
            ),
            lambda width: speed_accuracy(frame, styles, width),
        ),
        (
            "latency",
            "Where the time goes",
            "Mean time of each stage at batch 1; they add up to the mean of the whole. The tick on "
            "a line is the median, its end the 90th percentile, end to end.",
            lambda width: latency(by_name, styles, width),
        ),
        (
            "curves",
            "Learning curves",
            "AP on the validation split while training, one line a run. Where lines still rise or "
            "cross, another budget could give another order.",
            lambda width: curves(by_name, styles, width),
        ),
        (
            "classes",
            "AP of each class",
            f"In brackets the number of test boxes (at most {MOST_CLASSES} classes, those with the "
            "most boxes). n/a: a class without ground truth; it is in no mean."
            + (" Means over seeds." * seeds),
            lambda width: classes(by_name, width),
        ),
    ]
    drawings = []
    for name, title, caption, make in jobs:
        with matplotlib.rc_context(_RC), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it
            if (figure := make(WIDE)) is None or (small := make(NARROW)) is None:
                continue
            svg = _svg(figure)
            drawings.append(
                Drawing(
                    name + suffix,
                    title,
                    caption,
                    svg,
                    _png(figure),
                    inline(svg, f"{name}{suffix}w", title),
                    inline(_svg(small), f"{name}{suffix}n", title),
                )
            )
    return drawings


def speed_accuracy(frame: pd.DataFrame, styles: Mapping[str, Style], width: float) -> Figure | None:
    """AP against median latency with both intervals, and the Pareto front."""
    rows = contenders(frame).dropna(subset=["AP", "p50_ms"])
    rows = rows[rows["p50_ms"] > 0]
    if rows.empty:
        return None
    figure, axes = _figure(width, 0.58 * width if width > 6 else 0.85 * width)
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
    if times.max() > 8 * times.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(_PLAIN)
    else:
        axes.set_xlim(
            left=0, right=1.06 * max(times.max(), rows["p50_ms_high"].max(skipna=True) or 0)
        )
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("median latency, end to end, batch 1 (ms)")
    axes.set_ylabel("AP")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(_PLAIN)
    _legend(figure, [str(name) for name in rows["detector"]], styles, width, lines=False)
    return figure


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
    """A bar of stage means for each detector, fastest on top, over a line from p50 to p90."""
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
    figure, axes = _figure(width, 0.95 + 0.46 * len(order) + 0.6)
    colours = [colormaps["cividis"](x) for x in np.linspace(0.05, 1.0, len(STAGES))]
    for y, name in enumerate(order):
        means, p50, p90 = bars[name]
        left = 0.0
        for mean, colour in zip(means, colours, strict=True):
            axes.barh(y, mean, 0.5, left=left, color=colour, ec=INK, lw=0.5)
            left += mean
        style = styles[name]
        if not math.isnan(p90):
            axes.plot([p50, p90], [y + 0.37] * 2, color=style.colour, lw=1.6, solid_capstyle="butt")
        axes.plot([p50], [y + 0.37], "|", color=style.colour, ms=7, mew=2)
    axes.set_yticks(range(len(order)), [shorten(name, 30 if width > 6 else 16) for name in order])
    for tick, name in zip(axes.get_yticklabels(), order, strict=True):
        tick.set_color(styles[name].colour)
        tick.set_fontweight("bold")
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("ms an image")
    handles = [Patch(fc=c, ec=INK, lw=0.5, label=s) for s, c in zip(STAGES, colours, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
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
    figure = Figure(figsize=(width, 3.4 if side_by_side else 5.6), layout="constrained")
    shape = (1, 2) if side_by_side else (2, 1)
    panels = figure.subplots(*shape, sharey=True)
    for axes, key, label in zip(
        panels, ("images_seen", "seconds"), ("images seen", "s"), strict=True
    ):
        for name, runs in drawn.items():
            style = styles[name]
            for run in runs:
                points = [(p[key], p["AP"]) for p in run.curve if not math.isnan(p[key])]
                axes.plot(
                    *(zip(*points, strict=True) if points else ((), ())),
                    ls=style.line,
                    marker=style.marker,
                    ms=4,
                    lw=1.5,
                    color=style.colour,
                )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("images seen" if key == "images_seen" else f"training time ({label})")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=key == "images_seen"))
        axes.xaxis.set_major_formatter(_PLAIN)
        if key == "images_seen" or not side_by_side:
            axes.set_ylabel("AP (val)")
    _legend(figure, list(drawn), styles, width, lines=True)
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
    height = 0.75 + 0.27 * len(rows) + 0.055 * min(24, max(map(len, by_name)))
    figure, axes = _figure(width, height)
    top = math.ceil(10 * np.nanmax(values, initial=0.1)) / 10
    axes.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=top)
    small = 6.5 if len(by_name) > (16 if wide else 6) else 8.5
    for y, x in np.ndindex(*values.shape):
        value = values[y, x]
        text = "n/a" if math.isnan(value) else f"{value:.2f}"
        colour = INK if math.isnan(value) else ("#ffffff" if value < 0.5 * top else "#101010")
        axes.text(x, y, text, ha="center", va="center", fontsize=small, color=colour)
    counts = ["" if math.isnan(boxes[c]) else f" ({boxes[c]:,.0f})" for c in rows]
    axes.set_yticks(
        range(len(rows)),
        [shorten(c, 26 if wide else 14) + n for c, n in zip(rows, counts, strict=True)],
    )
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(by_name)), [shorten(name, 24) for name in by_name], **turned)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _legend(
    figure: Figure, names: Sequence[str], styles: Mapping[str, Style], width: float, lines: bool
) -> None:
    """Detectors below the axes, in as many columns as their names leave room for."""
    labels = [shorten(name, 40 if width > 6 else 30) for name in names]
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
    columns = max(1, int(width * 11) // (max(map(len, labels)) + (8 if lines else 5)))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(names)))


def _arms(row: pd.Series, key: str) -> list[list[float]] | None:
    """The error bar's two lengths; none where there is no interval or it leaves the value out."""
    low, high = row[key] - row[f"{key}_low"], row[f"{key}_high"] - row[key]
    if math.isnan(low) or math.isnan(high):
        return None
    return [[max(0.0, low)], [max(0.0, high)]]


def _average(values: Sequence[float]) -> float:
    """The mean; NaN if any value is."""
    return sum(values) / len(values) if values else math.nan


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def inline(svg: str, prefix: str, title: str) -> str:
    """The SVG element alone, in the page's ink and paper, with ids that are its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
