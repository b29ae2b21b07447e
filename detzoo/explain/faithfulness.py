"""The faithfulness of the maps of one detection: every method, every score."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from detzoo.detector import Detector
from detzoo.explain.methods import draw
from detzoo.explain.sanity import sanity
from detzoo.explain.scores import (
    BLUR,
    blurred_image,
    covered_scores,
    deletion,
    energy,
    energy_share,
    insertion,
    pointing,
)
from detzoo.explain.target import Asked
from detzoo.explain.view import View, blurred

LAYER = "after "  # prefix of the name of one layer's sanity score
ORACLE = "oracle"  # the map that is correct by construction
# The part of the score that is left when the mark, or the place opposite, is covered
COVERED = ("mark covered", "opposite covered")
SURROUNDINGS = 0.01  # the weight of the pixels around the object in that map


@dataclass(frozen=True)
class Score:
    """better: "high" or "low". limits: the range of the score of any map."""

    title: str
    better: str
    limits: tuple[float, float] = (-math.inf, math.inf)


SCORES = {
    "deletion": Score("deletion: score while its highest pixels go", "low"),
    "insertion": Score("insertion: score while its highest pixels come", "high"),
    "energy": Score("energy in the box over the box's share of the image", "high"),
    "pointing": Score("highest pixel in the box", "high", (0.0, 1.0)),
    "others": Score("energy on other objects", "low", (0.0, 1.0)),
    "mark": Score("energy on the planted mark over its share of the image", "low"),
    "opposite": Score("energy on the place opposite to the mark, over its share", "low"),
    "randomised": Score("agreement with the map of a detector all randomised", "low"),
    "seconds": Score("seconds for a map", "low"),
}


def judge(
    detector: Detector,
    view: View,
    asked: Asked,
    truth: Tensor,
    others: Tensor,
    methods: Sequence[str],
    *,
    mark: Tensor | None = None,
    without: Tensor | None = None,
    fast: Detector | None = None,
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """method -> the scores of its map, by the names of SCORES, and of each layer's sanity.

    truth: (1, 4) the object's true box, others: (M, 4) those of the image's other objects, mark:
    (2, 4) a planted mark and the place opposite, all in the network's pixels. without: (1, 3, H,
    W) the image without the object, where that is known: deletion and insertion lead to it, and the
    right map is scored under the name ORACLE. fast: the same detector as it computes fastest, for
    the scores of changed images, which take most of the time and no gradient. "after head" and so
    on: the agreement with the map after that layer, too, is randomised.
    """
    fast = detector if fast is None else fast
    maps: dict[str, Tensor] = {}
    times: dict[str, float | None] = {}
    for method in methods:
        began = time.perf_counter()
        maps[method] = draw(detector, view, asked, method, seed)
        times[method] = time.perf_counter() - began
    found: dict[str, dict[str, float | None]] = {}
    rows, columns = view.frame.resized
    known = {} if without is None else {ORACLE: oracle_map(view, without)}
    start = blurred_image(view) if without is None else without
    for method, heat in (maps | known).items():
        inside = heat[:rows, :columns].cpu().numpy()
        hit = pointing(inside, truth)
        found[method] = {
            "deletion": deletion(fast, view, asked, heat, without).area,
            "insertion": insertion(fast, view, asked, heat, start).area,
            "energy": energy(inside, truth),
            "pointing": None if hit is None else float(hit),
            "others": energy_share(inside, others) if len(others) else None,
            "mark": None if mark is None else energy(inside, mark[:1]),
            "opposite": None if mark is None else energy(inside, mark[1:]),
            "seconds": times.get(method),
        }
    if mark is not None:  # the detector's, whatever the method
        left = dict(zip(COVERED, covered_scores(fast, view, asked, mark), strict=True))
        found = {method: scores | left for method, scores in found.items()}
    for method, by_layer in sanity(detector, view, asked, maps, seed).items():
        found[method] |= {f"{LAYER}{layer}": value for layer, value in by_layer.items()}
        found[method]["randomised"] = next(reversed(by_layer.values()), None)
    return found


def oracle_map(view: View, without: Tensor) -> Tensor:
    """(H, W) over the network's pixels: by how much an object changes each, averaged over colours.

    without: (1, 3, H, W) the same image before the object was inserted. A pixel of the object's
    that looks like the ground behind it matters as little as one elsewhere. Those around are
    ordered too, weakly, the nearest first, so that no score depends on how ties are broken.
    """
    change = (view.pixels - without).abs().mean(1, keepdim=True)
    around = blurred(change, BLUR * max(view.frame.resized))
    return (change + SURROUNDINGS * around)[0, 0]
