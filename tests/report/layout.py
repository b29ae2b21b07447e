"""Whether the texts of a figure can be read: none is cut off, no two overlap."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.text import Text


def printed(figure: Figure) -> Iterator[Text]:
    """The texts that reach the paper: matplotlib also keeps ticks outside of what an axis shows."""
    yield from (text for text in figure.texts)
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        yield from (axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            yield from (t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high)
    for legend in figure.legends:
        yield from legend.get_texts()


def assert_texts_lie_apart(figure: Figure) -> None:
    texts = [text for text in printed(figure) if text.get_visible() and text.get_text().strip()]
    extents = [(t, t.get_window_extent()) for t in texts]
    for text, box in extents:
        assert box.x0 >= -1 and box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
    for rotation in (0, 90):  # the boxes of texts that lean are larger than what they cover
        upright = [(text, box) for text, box in extents if text.get_rotation() == rotation]
        for i, (one, first) in enumerate(upright):
            for other, second in upright[:i]:
                assert not first.padded(-1).overlaps(second.padded(-1)), (one, other)
