"""The images and boxes of a data set to check first: those that look like labelling mistakes.

None of them is an error, and none is left out of training.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from detzoo.data.dataset import Dataset, Problem, Sample

TINY = 3  # pixels; smaller labels are hardly intentional
WHOLE = 0.98  # of the image
LONG = 20  # times as long as wide
TWINS = 0.9  # IoU of two boxes on one object
WEIGHTS = {"error": 8, "warning": 3}  # of a problem; of a doubt 1


@dataclass
class Doubt:
    """What is odd about one image. boxes: the indices of its odd boxes."""

    index: int
    reasons: list[str] = field(default_factory=list)
    boxes: set[int] = field(default_factory=set)
    weight: int = 0

    def add(self, reason: str, boxes: Sequence[int] = (), weight: int = 1) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.boxes.update(boxes)
        self.weight += weight


def doubts(dataset: Dataset, problems: Sequence[Problem] = ()) -> list[Doubt]:
    """The images that something is odd about, the oddest first.

    problems: what `check` found in the data set; those without an image that was read are left out.
    """
    found = [Doubt(index) for index in range(len(dataset.samples))]
    places = _Places(dataset)
    for problem in problems:
        for index in places.of(problem):
            what = problem.what.replace(f"{dataset.samples[index].path}: ", "")
            found[index].add(f"{problem.kind}: {what}", (), WEIGHTS[problem.severity])
    for doubt, sample in zip(found, dataset.samples, strict=True):
        _shapes(doubt, sample)
        _twins(doubt, sample, dataset.classes)
    return sorted((d for d in found if d.reasons), key=lambda d: -d.weight)


def examples(
    dataset: Dataset, label: int, count: int, first: Sequence[Doubt] = ()
) -> list[tuple[int, int]]:
    """(image, box) of up to `count` boxes of a class, one an image as long as there are enough:
    doubtful ones before the others, which are evenly spaced through the data set."""
    doubtful = {(doubt.index, box) for doubt in first for box in doubt.boxes}
    order = {doubt.index: place for place, doubt in enumerate(first)}
    boxes = [
        (index, box)
        for index, sample in enumerate(dataset.samples)
        for box in np.flatnonzero((sample.labels == label).numpy()).tolist()
    ]
    odd = sorted((b for b in boxes if b in doubtful), key=lambda b: order[b[0]])[:count]
    rest = [b for b in boxes if b not in doubtful]
    one_each = list({index: (index, box) for index, box in reversed(rest)}.values())[::-1]
    pool = one_each if len(one_each) >= count - len(odd) else rest
    return odd + spaced(pool, count - len(odd))


def spaced(items: Sequence, count: int) -> list:
    """`count` of the items, evenly spaced; all if there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[int((place + 0.5) * len(items) / count)] for place in range(count)]


def _shapes(doubt: Doubt, sample: Sample) -> None:
    """Boxes that are tiny, very long, or all of the image."""
    boxes = sample.boxes.numpy().astype(np.float64)
    if not len(boxes):
        return
    sides = boxes[:, 2:] - boxes[:, :2]
    least, most = sides.min(axis=1), sides.max(axis=1)
    height, width = sample.size
    covers = sides.prod(axis=1) >= WHOLE * width * height
    for which, reason in (
        (least < TINY, "a box under 3 px"),
        ((most > LONG * least) & (least >= TINY), f"a box over {LONG} times as long as wide"),
        (covers & (len(boxes) > 1), "a box around the whole image, and others"),
    ):
        if which.any():
            doubt.add(reason, np.flatnonzero(which).tolist())


def _twins(doubt: Doubt, sample: Sample, classes: Sequence[str]) -> None:
    """Two boxes that are nearly the same."""
    boxes = sample.boxes.numpy().astype(np.float64)
    if not 2 <= len(boxes) <= 1000:
        return
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    iou = common / (area[:, None] + area - common)
    for one, other in np.argwhere(np.triu(iou >= TWINS, k=1)).tolist():
        names = [classes[sample.labels[box]] for box in (one, other)]
        kinds = f"both {names[0]}" if names[0] == names[1] else " and ".join(names)
        doubt.add(f"two boxes on one place ({kinds})", (one, other), 1 + (names[0] != names[1]))


class _Places:
    """From the place of a Problem to its images."""

    def __init__(self, dataset: Dataset) -> None:
        self.by_path: dict[str, int] = {}
        self.by_stem: dict[str, list[int]] = defaultdict(list)
        self.by_id: dict[str, int] = {}
        self.split = dataset.split
        for index, sample in enumerate(dataset.samples):
            name = sample.path.relative_to(dataset.root).as_posix()
            self.by_path[name] = index
            self.by_stem[sample.path.stem].append(index)
            self.by_id[str(sample.id)] = index

    def of(self, problem: Problem) -> list[int]:
        if problem.split and problem.split != self.split:
            return []
        where = problem.where.removeprefix(f"{self.split}: ")
        place = re.sub(r"(?: \(id \d+\)|:\d+)$", "", where)
        if place in self.by_path:
            return [self.by_path[place]]
        if found := re.search(r"\bimage (\d+)$", place):  # COCO: the annotation and its image
            return [self.by_id[found[1]]] if found[1] in self.by_id else []
        name = place.split(": ")[0].rpartition("/")[2]  # its own label file
        stem, dot, suffix = name.rpartition(".")
        same = self.by_stem.get(stem, []) if dot and suffix in ("txt", "xml") else []
        return same if len(same) == 1 else []
