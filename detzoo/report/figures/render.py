"""Figures of one table, drawn for paper (SVG and PNG files) and for the page (SVG in its colours).

Nothing global is touched, and a style of the user's own changes nothing here. Text becomes
outlines, so that it cannot reflow and overlap where a font is missing.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from detzoo.report.analysis.detectors import Detail
from detzoo.report.analysis.tails import outliers, reason
from detzoo.report.figures import details, effort, latency, overview
from detzoo.report.figures.fonts import families, legend
from detzoo.report.figures.overview import INK, MOST_CLASSES, PAPER
from detzoo.report.figures.palette import Style
from detzoo.report.load.runs import Run, dig, number, shorten
from detzoo.report.tables.leaderboard import contenders, noise

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
    known = detail_of or {}
    for name in contenders(frame)["detector"]:
        by_name[str(name)] = [run for run in runs if called[run] == name]
    names = _class_names(by_name)
    numbers = f" {numbered}" if (numbered := legend(names)) else ""
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
            lambda width: overview.speed_accuracy(frame, styles, width),
        ),
        (
            "latency",
            "Where the time goes",
            "Medians of the stages at batch 1, sorted by the median of the whole: the tick below "
            "each bar, whose line reaches to the 90th percentile. Dots are passes of more than 3 "
            "times the median." + _tails(by_name),
            lambda width: latency.latency(by_name, styles, width),
        ),
        (
            "percentiles",
            "How long it may take",
            "Percentiles of the latency end to end at batch 1; nothing is clipped.",
            lambda width: details.percentiles(frame, styles, width),
        ),
        (
            "curves",
            "Learning curves",
            "AP on the validation split while training, one line a run. Where lines still rise or "
            "cross, another budget could give another order.",
            lambda width: overview.curves(by_name, styles, width),
        ),
        (
            "effort",
            "What a search is worth",
            "The best AP on val to be expected of so many trials, and one standard deviation "
            "(Dodge et al. 2019, equation 1, with replacement from the trials that were made): a "
            "line that is flat needs no search, one that rises won by it. Of all trials at the "
            "first rung, at equal images seen; later ones were chosen by what the first gave.",
            lambda width: effort.expected(by_name, styles, width),
        ),
        (
            "classes",
            "AP of each class",
            f"In brackets the number of test boxes (at most {MOST_CLASSES} classes, those with the "
            "most boxes)." + _left_out(by_name) + (" Means over seeds." * seeds) + numbers,
            lambda width: overview.classes(by_name, width),
        ),
        (
            "errors",
            "Kinds of error",
            "What AP50 would be higher by were there no error of a kind (TIDE); they do not add "
            "up. The two sums have a scale of their own. A box of the right class but IoU 0.1 to "
            "0.5 (localisation); a good box of the wrong class (classification); neither "
            "(both); a second box on one object (duplicate); a box on nothing (background); an "
            "object that no error points at (missed)." + (" Means over seeds." * seeds),
            lambda width: details.errors(known, styles, width),
        ),
        (
            "precision-recall",
            "Precision and recall",
            "The mean over classes of COCO's curves; the mean height of a line is its AP there.",
            lambda width: details.precision_recall(known, styles, width),
        ),
        (
            "f1",
            "F1 against the score threshold",
            "On the test set, mean over classes, at IoU 0.50. The marker is at the threshold that "
            "was the best on the validation split: what it reaches here was not chosen here. A "
            "line without a marker has no predictions on val.",
            lambda width: details.f1(known, styles, width),
        ),
        (
            "froc",
            "Recall against false alarms",
            "On the test set, all classes in one list by score, at IoU 0.50 (FROC). A false alarm "
            "is a box that finds no object of its class. The marker is at the threshold with the "
            "best F1 on the validation split." + (" Means over seeds." * seeds),
            lambda width: details.froc(known, styles, width),
        ),
        (
            "reliability",
            "Does a score mean what it says?",
            "Of the detections from a detector's own threshold on: their precision at IoU 0.50 "
            "(line) and mean IoU (dashes) in 25 bins of the score, points as large as the bin is "
            "full. On the dotted line a score is what it promises; below it is too sure."
            + (" Of several seeds the first." * seeds),
            lambda width: details.reliability(known, styles, width),
        ),
        (
            "confusion",
            "What is taken for what",
            "Boxes of a true class (down) by the class of their one detection at IoU 0.50, from "
            "the detector's own threshold on; colours are shares of the row. The last row are "
            "detections on background, the last column objects that were not found."
            + (" Of several seeds the first." * seeds)
            + numbers,
            lambda width: details.confusion(known, styles, width),
        ),
    ]
    if noise(frame):
        jobs = [job for job in jobs if job[0] in OF_SPEED]
    drawings = []
    for name, title, caption, make in jobs:
        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_RC)
            matplotlib.rcParams["font.family"] = families([*by_name, *names])
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
                    inline(_svg(small), f"{name}{suffix}", title),
                    name in FOLDED,
                )
            )
    return drawings


def _class_names(by_name: Mapping[str, Sequence[Run]]) -> list[str]:
    """In the order of their ids, as metrics.json has them."""
    tables = [dig(run.metrics, "per_class") for runs in by_name.values() for run in runs]
    return list(dict.fromkeys(n for table in tables if isinstance(table, dict) for n in table))


def _tails(by_name: Mapping[str, Sequence[Run]]) -> str:
    """Why passes are slow, of the three detectors that have the most of them."""
    slow = {name: len(outliers(runs)) for name, runs in by_name.items()}
    worst = sorted((n for n in slow if slow[n]), key=lambda n: -slow[n])[:3]
    return "".join(f" {shorten(name, 40)}: {reason(by_name[name])}." for name in worst)


def _left_out(by_name: Mapping[str, Sequence[Run]]) -> str:
    """How many classes have no test boxes."""
    tables = [dig(run.metrics, "per_class") for runs in by_name.values() for run in runs]
    first = next((table for table in tables if isinstance(table, dict)), {})
    count = sum(number(first, name, "boxes") == 0 for name in first)
    verb = "class has" if count == 1 else "classes have"
    return f" {count} {verb} no test boxes, and no AP." * bool(count)


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
