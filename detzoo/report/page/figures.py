"""Figures as the page's template takes them, and the part on how AP grows with the labels."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from detzoo.report.analysis.training_images import (
    describe_seeds,
    of_fractions,
    summarise,
    table,
)
from detzoo.report.figures.captions import GROWTH
from detzoo.report.figures.render import Drawing
from detzoo.report.load.runs import Run


def figure(drawing: Drawing) -> dict[str, object]:
    """Name, title, caption and the SVG element."""
    fields = {key: getattr(drawing, key) for key in ("name", "title", "caption")}
    return fields | {"inline": Markup(drawing.inline)}


def is_growth(drawing: Drawing) -> bool:
    """Whether it belongs to the section on training images."""
    return drawing.name.startswith(GROWTH)


def is_shown(drawing: Drawing) -> bool:
    """Whether it is shown among the figures, unfolded."""
    return not drawing.folded and not is_growth(drawing)


def growth(runs: Sequence[Run], drawings: Sequence[Drawing]) -> dict[str, object] | None:
    """The page's section on AP by the number of training images; None where all numbers are
    equal."""
    drawn = [drawing for drawing in drawings if is_growth(drawing)]
    if not drawn:
        return None
    found = of_fractions(runs)
    heads, rows = table(found)
    answer = [*summarise(found), *filter(None, [describe_seeds(found)])]
    return {"heads": heads, "rows": rows, "answer": answer, "figure": figure(drawn[0])}
