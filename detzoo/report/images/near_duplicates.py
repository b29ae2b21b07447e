"""Images of two splits that look nearly the same, beside one another."""

from __future__ import annotations

from collections.abc import Sequence

from detzoo.report.images.drawing import as_uri
from detzoo.report.images.photographs import photograph
from detzoo.report.images.side_by_side import Gallery, Strip, Tile
from detzoo.report.load.datasets import Pair
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean


def near_duplicates(
    runs: Sequence[Run], pairs: Sequence[Pair], *, side: int = 260, quality: int = 75
) -> Gallery:
    """A strip for each pair. side: of the longer side at most, in pixels.

    Only where a folder is named that has the data: a run keeps images of its test split alone.
    """
    truths = [run.dataset()[0] for run in runs[:1] if not run.external]
    root = truths[0].get("root") if truths and isinstance(truths[0], dict) else None
    if root is None:
        return Gallery()
    strips = []
    for pair in pairs:
        tiles = []
        for record in pair.images:
            name = f"{clean(record.get('split'), 20)}: {clean(record.get('file_name'), 200)}"
            found = photograph({"root": root}, record)
            if isinstance(found, str):
                tiles.append(Tile(name, "", note=found))
            else:
                found.image.thumbnail((side, side))
                tiles.append(Tile(name, "", as_uri(found.image, quality)))
        strips.append(Strip(f"{pair.distance} of 64 bits differ", tuple(tiles)))
    return Gallery(strips)
