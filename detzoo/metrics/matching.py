"""Which detection found which box, by COCO's rule, for all images and classes at once.

In order of score, a detection takes the box of its class with the largest IoU among those still
free, the last of equals; otherwise it may match an ignored box, and a crowd can be matched
repeatedly. pycocotools does this image by image; here the r-th detections of all images are matched
together, with the same result.

Letters: I images, K classes, G boxes, N detections, P pairs of the two, T IoU thresholds. Boxes are
COCO's (x, y, width, height) in original pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from detzoo.metrics.coco import IOU_THRESHOLDS, check_results, checked

# COCO's ranges of area, in square pixels; the limits belong to both neighbours.
SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
_MOST_PAIRS = 4_000_000  # at once, which bounds the memory


@dataclass(frozen=True)
class Problem:
    """Ground truth and detections as arrays; images and classes are given by their index.

    image_ids: (I,) and class_ids: (K,) int64, rising. class_names: K. boxes: (G, 4) float64, with
    box_image, box_label (G,) int64, area (G,) float64 and crowd (G,) bool; a class's boxes of an
    image are consecutive, in the order of the file. detections: (N, 4) float64, with image, label
    (N,) int64 and score (N,) float64, ordered by class, image and falling score, and cut to
    max_dets an image and class. group: (I,) int64 in [0, G), which images belong together (the
    frames of a video); None where the ground truth has no `group` for an image.
    """

    image_ids: np.ndarray
    class_ids: np.ndarray
    class_names: tuple[str, ...]
    boxes: np.ndarray
    box_image: np.ndarray
    box_label: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    detections: np.ndarray
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    group: np.ndarray | None = None

    def count(self, which: np.ndarray) -> np.ndarray:
        """(K, I) int64: how many boxes `which` (G,) bool each class has in each image."""
        counts = np.zeros((len(self.class_ids), len(self.image_ids)), np.int64)
        np.add.at(counts, (self.box_label[which], self.box_image[which]), 1)
        return counts

    def above(self, score: float) -> Problem:
        """The same with only the detections of this score or more."""
        kept = self.score >= score
        names = ("detections", "image", "label", "score")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


def arrays(
    gt: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, max_dets: int = 100
) -> Problem:
    """A COCO dict and COCO results as a Problem. ValueError for any other form (see `checked`)."""
    truth, _ = checked(gt, [])
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    image_ids = np.array(sorted(image["id"] for image in truth["images"]), np.int64)
    class_ids = np.array([category["id"] for category in categories], np.int64)

    check_results(results, image_ids.tolist(), class_ids.tolist())

    def columns(entries: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
        images = np.array([entry["image_id"] for entry in entries], np.int64)
        labels = np.array([entry["category_id"] for entry in entries], np.int64)
        return boxes, image_ids.searchsorted(images), class_ids.searchsorted(labels)

    boxes, box_image, box_label = columns(truth["annotations"])
    area = np.array([a["area"] for a in truth["annotations"]], np.float64)
    crowd = np.array([a["iscrowd"] for a in truth["annotations"]], bool)
    by_group = np.lexsort((box_image, box_label))
    detections, image, label = columns(results)
    score = np.array([result["score"] for result in results], np.float64)
    ranked = np.lexsort((-score, image, label))
    ranked = ranked[_position(label[ranked] * len(image_ids) + image[ranked]) < max_dets]
    return Problem(
        image_ids,
        class_ids,
        tuple(str(category["name"]) for category in categories),
        *(a[by_group] for a in (boxes, box_image, box_label, area, crowd)),
        *(a[ranked] for a in (detections, image, label, score)),
        group_numbers(truth["images"]),
    )


def group_numbers(images: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """(I,) int64: the number of each image's `group`, by rising image id; None if none has any.

    Groups are numbered as they come; an image without a group is one by itself.
    """
    if all(image.get("group") is None for image in images):
        return None
    numbers: dict[Any, int] = {}
    found = []
    for image in sorted(images, key=lambda image: image["id"]):
        named = image.get("group")
        key = ("image", image["id"]) if named is None else ("group", str(named))
        found.append(numbers.setdefault(key, len(numbers)))
    return np.array(found, np.int64)


@dataclass(frozen=True)
class Pairs:
    """Detections and boxes of one image that overlap. detection, box: (P,) int64; iou: (P,).

    The IoU with a crowd is the share of the detection inside it.
    """

    detection: np.ndarray
    box: np.ndarray
    iou: np.ndarray

    def where(self, kept: np.ndarray) -> Pairs:
        """Those that are `kept`: (P,) bool or numbers of pairs."""
        return Pairs(self.detection[kept], self.box[kept], self.iou[kept])


def overlaps(problem: Problem, least: float, *, across: bool = False) -> Pairs:
    """The pairs with an IoU >= least (and > 0): of one class, or of all when `across`."""
    images = len(problem.image_ids)
    key_box, key = problem.box_image, problem.image
    if not across:
        key_box, key = key_box + images * problem.box_label, key + images * problem.label
    order = np.argsort(key_box, kind="stable")
    first = key_box[order].searchsorted(key)
    count = key_box[order].searchsorted(key, "right") - first
    found = []
    for part in _parts(count):
        detection = np.repeat(np.arange(part.start, part.stop), count[part])
        box = order[np.repeat(first[part], count[part]) + _position(detection)]
        iou = _iou(problem.detections[detection], problem.boxes[box], problem.crowd[box])
        found.append(Pairs(detection, box, iou).where((iou >= least) & (iou > 0)))
    return Pairs(
        *(np.concatenate([getattr(p, name) for p in found]) for name in Pairs.__annotations__)
    )


def assign(
    problem: Problem,
    pairs: Pairs,
    thresholds: np.ndarray = IOU_THRESHOLDS,
    ignored: np.ndarray | None = None,
) -> np.ndarray:
    """(T, N) int64: the box that each detection takes at each threshold, -1 for none.

    pairs: of one class. ignored: (G,) bool, the boxes that need not be found; crowds by default.
    """
    ignored = problem.crowd if ignored is None else ignored
    thresholds = np.minimum(thresholds, 1 - 1e-10)[:, None]  # as COCO has them
    pairs = pairs.where(pairs.iou >= thresholds.min())
    # In each detection's order of choice, and the first detections of all images first.
    order = np.lexsort((-pairs.box, -pairs.iou, ignored[pairs.box], pairs.detection))
    pairs = pairs.where(order)
    takers, start = np.unique(pairs.detection, return_index=True)
    group = problem.label[takers] * len(problem.image_ids) + problem.image[takers]
    turn = np.repeat(_position(group), np.diff(start, append=len(order)))
    pairs = pairs.where(np.argsort(turn, kind="stable"))
    ends = np.bincount(turn).cumsum()

    taken = np.full((len(thresholds), len(problem.score)), -1)
    free = np.ones((len(thresholds), len(problem.boxes)), bool)
    for begin, end in zip(ends - np.bincount(turn), ends, strict=True):
        detection, box = pairs.detection[begin:end], pairs.box[begin:end]
        open_ = (pairs.iou[begin:end] >= thresholds) & (free[:, box] | problem.crowd[box])
        place = np.where(open_, np.arange(end - begin), end - begin)
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        choice = np.minimum.reduceat(place, starts, axis=1)  # (T, detections of this turn)
        t, which = np.nonzero(choice < end - begin)
        chosen = box[choice[t, which]]
        taken[t, detection[starts][which]] = chosen
        free[t, chosen] = False
    return taken


def taken_iou(problem: Problem, taken: np.ndarray) -> np.ndarray:
    """(N,) float64: each detection's IoU with the box of `taken` (N,), 0 where that is -1."""
    iou = np.zeros(len(taken))
    which = np.flatnonzero(taken >= 0)
    box = taken[which]
    iou[which] = _iou(problem.detections[which], problem.boxes[box], problem.crowd[box])
    return iou


def _parts(count: np.ndarray) -> Iterator[slice]:
    """The detections in runs of about _MOST_PAIRS pairs; one run at least."""
    total = count.cumsum()
    limits = np.arange(_MOST_PAIRS, total[-1] if len(total) else 0, _MOST_PAIRS)
    edges = [0, *total.searchsorted(limits), len(count)]
    return (slice(int(a), int(b)) for a, b in pairwise(edges))


def _position(keys: np.ndarray) -> np.ndarray:
    """The how manieth of its run each is: [5, 5, 8, 5] -> [0, 1, 0, 0]."""
    index = np.arange(len(keys))
    begins = np.diff(keys, prepend=keys[:1] - 1) != 0
    return index - np.maximum.accumulate(np.where(begins, index, 0))


def _iou(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Row by row, in pycocotools' own order of operations, so that ties are the same."""
    width = np.minimum(a[:, 0] + a[:, 2], b[:, 0] + b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 1] + a[:, 3], b[:, 1] + b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    common = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = a[:, 2] * a[:, 3]
    union = np.where(crowd, area, area + b[:, 2] * b[:, 3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)
