"""Figures of one table, drawn for paper (SVG and PNG files) and for the page (SVG in its colours).

No global state is touched, and the user's matplotlib style has no effect here. Text becomes
outlines, so that it cannot reflow and overlap where a font is missing.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from detzoo.report.analysis.detectors import Detail
from detzoo.report.analysis.training_images import of_fractions
from detzoo.report.figures import details, effort, latency, overview, training_images
from detzoo.report.figures.captions import GROWTH, TITLES, class_names, write_captions
from detzoo.report.figures.fonts import families
from detzoo.report.figures.overview import INK, PAPER
from detzoo.report.figures.palette import Style
from detzoo.report.load.runs import Run
from detzoo.report.tables.leaderboard import contenders, is_noise

WIDE, NARROW = 6.4, 4.0  # inches at 96 px: of the files, of the page
OF_SPEED = ("latency", "percentiles")  # the others are of accuracy
FOLDED = ("percentiles", "errors", "precision-recall", "f1", "froc", "reliability", "confusion")
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


@dataclass(frozen=True)
class Drawing:
    """One figure in all its forms. svg, png: files; inline: the SVG element of the page,
    drawn for both a phone and a column of a desk. folded: not shown at once."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    inline: str
    folded: bool = False


def draw(
    runs: Sequence[Run],
    frame: pd.DataFrame,
    called: Mapping[Run, str],
    styles: Mapping[str, Style],
    suffix: str = "",
    detail_of: Mapping[str, Detail] | None = None,
) -> list[Drawing]:
    """Every figure that one table's runs have the numbers for. suffix: ends their names.

    detail_of: the detectors whose predictions could be read.
    """
    by_name: dict[str, list[Run]] = {}
    for name in contenders(frame)["detector"]:
        by_name[str(name)] = [run for run in runs if called[run] == name]
    charts = _charts(frame, by_name, detail_of or {}, styles)
    if is_noise(frame):
        charts = {name: charts[name] for name in OF_SPEED}
    captions = write_captions(by_name)
    drawings = []
    for name, chart in charts.items():
        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_RC)
            matplotlib.rcParams["font.family"] = families([*by_name, *class_names(by_name)])
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
            if (figure := chart(width=WIDE)) is None or (small := chart(width=NARROW)) is None:
                continue
            title, svg = TITLES[name], _svg(figure)
            page = inline(_svg(small), f"{name}{suffix}", title)
            drawings.append(
                Drawing(
                    f"{name}{suffix}",
                    title,
                    captions[name],
                    svg,
                    _png(figure),
                    page,
                    folded=name in FOLDED,
                )
            )
    return drawings


def _charts(
    frame: pd.DataFrame,
    by_name: Mapping[str, Sequence[Run]],
    known: Mapping[str, Detail],
    styles: Mapping[str, Style],
) -> dict[str, Callable[..., Figure | None]]:
    """Figure -> the chart as a function of `width`, in the order of the page."""
    runs = [run for members in by_name.values() for run in members]
    return {
        "speed-accuracy": partial(overview.speed_accuracy, frame, styles),
        "classes": partial(overview.classes, by_name),
        "latency": partial(latency.latency, by_name, styles),
        "percentiles": partial(details.percentiles, frame, styles),
        "curves": partial(overview.curves, by_name, styles),
        "effort": partial(effort.expected, by_name, styles),
        GROWTH: partial(training_images.growth, of_fractions(runs)),
        "errors": partial(details.errors, known, styles),
        "precision-recall": partial(details.precision_recall, known, styles),
        "f1": partial(details.f1, known, styles),
        "froc": partial(details.froc, known, styles),
        "reliability": partial(details.reliability, known, styles),
        "confusion": partial(details.confusion, known, styles),
    }


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
