"""AP against the number of training images."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from detzoo.report.analysis.training_images import Size
from detzoo.report.figures.overview import legend, legend_height, new_figure
from detzoo.report.figures.palette import styles


def growth(found: Sequence[Size], width: float = 6.0) -> Figure | None:
    """A line for each detector with 95% intervals; the number of images on a logarithmic axis. None
    where nothing is found."""
    if not found:
        return None
    looks = styles(of.detector for of in found)
    names = list(dict.fromkeys(of.detector for of in found))
    figure, axes = new_figure(width, 3.4 + legend_height(names, width))
    for place, name in enumerate(names):
        style = looks[name]
        mine = sorted((of for of in found if of.detector == name), key=lambda of: of.images)
        shift = 1 + 0.012 * (place - (len(names) - 1) / 2)  # intervals beside one another
        x = [of.images * shift for of in mine]
        axes.errorbar(
            x,
            [of.ap for of in mine],
            yerr=[
                [max(0.0, of.ap - of.low) for of in mine],
                [max(0.0, of.high - of.ap) for of in mine],
            ],
            ls=style.line,
            marker=style.marker,
            color=style.colour,
            ms=5,
            lw=1.5,
            elinewidth=1,
            capsize=2,
        )
    counts = sorted({of.images for of in found})
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{n:,}" for n in counts])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training images")
    axes.set_ylabel("AP (test)")
    legend(figure, names, looks, width, lines=True)
    return figure
