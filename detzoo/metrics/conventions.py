"""Which convention results follow: the meaning of boxes, image ids and class ids.

A file that counts classes from 0, or whose boxes are corners, scores near 0 without an error. Here
its detections are read in each way that programs write, and laid on the ground truth: the reading
that the file was meant in puts far more of them on an object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detzoo.box_forms import FRACTIONS, PIXELS, XYWH, leave
from detzoo.metrics.matching import arrays, overlaps

MOST = 1000  # results that are laid on the truth: those with the highest scores
COCO = XYWH.name
FEW = 0.1  # the share of boxes that may be outside or tiny without a note


@dataclass(frozen=True)
class Fit:
    """How many of `of` results are on an object (IoU >= 0.5) in the interpretation `name`."""

    name: str
    hits: int
    of: int

    def beats(self, other: Fit, *, suspicious: bool = False) -> bool:
        """Whether this interpretation is certainly right; less evidence is enough if the other is
        impossible."""
        if self.hits < max(1, 3 * other.hits):
            return False
        many = self.hits >= 3 and self.hits >= 0.2 * self.of
        return many or (self.hits >= 2 and self.hits == self.of) or suspicious


def best(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The MOST results with the highest scores, in the order of the file."""
    if len(results) <= MOST:
        return list(results)
    scores = np.array([result["score"] for result in results], np.float64)
    return [results[i] for i in np.sort(np.argsort(-scores, kind="stable")[:MOST])]


def sizes_of(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 2) height and width of each result's image, NaN where they are not known."""
    sizes = {
        image["id"]: (image.get("height") or np.nan, image.get("width") or np.nan)
        for image in truth["images"]
    }
    return np.array([sizes[result["image_id"]] for result in results], np.float64).reshape(-1, 2)


def box_fits(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Fit]:
    """Every interpretation of the boxes, COCO's own first; for any class."""
    few = best(results)
    written = np.array([result["bbox"] for result in few], np.float64).reshape(-1, 4)
    sizes = sizes_of(truth, few)
    small = len(few) and np.abs(written).max() <= 2 and np.isfinite(sizes).all()
    return [
        Fit(form.name, _on_objects(truth, few, form.boxes(written, sizes)), len(few))
        for form in (*PIXELS, *(FRACTIONS if small else ()))
    ]


def class_fits(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[Fit, list[Fit]]:
    """category_id as written, and as the index of the class in the list, from 0 or 1; counts the
    boxes on an object of their class. Interpretations that change nothing are left out.
    """
    few, ids = best(results), sorted(category["id"] for category in truth["categories"])
    boxes = XYWH.corners(np.array([result["bbox"] for result in few], np.float64).reshape(-1, 4))
    written = Fit("ids of the categories", _on_objects(truth, few, boxes, across=False), len(few))
    others = []
    for first in (0, 1):
        places = dict(enumerate(ids, first))
        used = {result["category_id"] for result in few}
        if not used <= set(places) or all(places[id] == id for id in used):
            continue
        moved = [{**result, "category_id": places[result["category_id"]]} for result in few]
        hits = _on_objects(truth, moved, boxes, across=False)
        others.append(Fit(f"classes counted from {first}", hits, len(few)))
    return written, others


@dataclass(frozen=True)
class Plausible:
    """Of `of` boxes as COCO reads them: how many leave their image, how many are under a pixel wide
    or high, and how many have all four numbers in 0..1."""

    of: int
    outside: int
    tiny: int
    normalised: int

    @property
    def suspicion(self) -> str:
        """Why the boxes are implausible; "" if they are not."""
        reasons = []
        if self.outside > FEW * self.of:
            reasons.append(f"{self.outside:,} of {self.of:,} boxes leave their image")
        if self.tiny > FEW * self.of:
            reasons.append(f"{self.tiny:,} of {self.of:,} boxes are under 1 px wide or high")
        return " and ".join(reasons)


def plausible(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Plausible:
    """Counts over all boxes; an image whose size is not known is left by none."""
    boxes = np.array([result["bbox"] for result in results], np.float64).reshape(-1, 4)
    over = leave(XYWH.corners(boxes), sizes_of(truth, results))
    unit = ((boxes >= 0) & (boxes <= 1)).all(axis=1)
    return Plausible(
        len(boxes),
        int(over.sum()),
        int((boxes[:, 2:] < 1).any(axis=1).sum()),
        int(unit.sum()),
    )


def _on_objects(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    boxes: np.ndarray,
    *,
    across: bool = True,
) -> int:
    """How many of the results are on a true box with these (N, 4) xyxy boxes instead of their own;
    across: of any class."""
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    rows = zip(results, sides.tolist(), strict=True)
    read = [{**result, "bbox": box} for result, box in rows if box[2] > 0 and box[3] > 0]
    if not read:
        return 0
    known = [category["id"] for category in truth["categories"]]
    if across:  # the classes are not known yet
        read = [{**result, "category_id": known[0]} for result in read]
    problem = arrays(truth, read, max_dets=len(read))
    return len(np.unique(overlaps(problem, 0.5, across=across).detection))
