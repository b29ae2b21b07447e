"""What a search was worth: the expected best AP against the number of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detzoo.metrics.effort import expected_best
from detzoo.report.figures.overview import legend, legend_height, new_figure
from detzoo.report.figures.palette import Style
from detzoo.report.load.effort import trial_scores
from detzoo.report.load.runs import Run

LEAST = 2  # trials


def expected(
    by_name: Mapping[str, Sequence[Run]], styles: Mapping[str, Style], width: float
) -> Figure | None:
    """Expected best AP on val after k trials, a line a detector, with one standard deviation."""
    scores = {name: trial_scores(runs[0]) for name, runs in by_name.items() if runs}
    scores = {name: values for name, values in scores.items() if len(values) >= LEAST}
    if not scores:
        return None
    figure, axes = new_figure(width, 3.0 + legend_height(list(scores), width))
    for name, values in scores.items():
        mean, variance = expected_best(values)
        tries, sd, look = np.arange(1, len(values) + 1), np.sqrt(variance), styles[name]
        axes.fill_between(
            tries, np.maximum(0, mean - sd), mean + sd, color=look.colour, alpha=0.1, lw=0
        )
        axes.plot(tries, mean, ls=look.line, marker=look.marker, ms=4, lw=1.5, color=look.colour)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("trials")
    axes.set_ylabel("expected best AP (val)")
    legend(figure, list(scores), styles, width, lines=True)
    return figure
