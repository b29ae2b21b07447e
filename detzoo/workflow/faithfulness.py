"""The faithfulness of maps: every detector and method over the same true objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from detzoo.data import Dataset, Source
from detzoo.data.dataset import Sample
from detzoo.explain.faithfulness import judge
from detzoo.explain.methods import BASELINES
from detzoo.explain.statistics import ROUND
from detzoo.explain.target import SAME, Asked
from detzoo.explain.view import look, pixels_of
from detzoo.ops.boxes import iou
from detzoo.progress import Progress
from detzoo.types import Detections
from detzoo.workflow.contestants import Contestant, by_seed
from detzoo.workflow.explain import Explained
from detzoo.workflow.faithfulness_page import write_study

FAINT = 0.05  # the score from which an object counts as found here
AN_IMAGE = 2  # objects at most: those of one image are not independent


@dataclass(frozen=True)
class GroundTruth:
    """The known pixels of an inserted object, in the image's coordinates. mark: (2, 4) xyxy, a mark
    beside it and the place opposite. without: (height, width, 3) uint8, the image before it was
    inserted."""

    mark: Tensor | None = None
    without: np.ndarray | None = None


# The ground truth of a sample's object of that index; None: the object is not studied
GroundTruthOf = Callable[[Sample, int], GroundTruth | None]
Objects = dict[str, tuple[Detections, int]]  # detector -> its detections, which of them


def marks_of(data: Source) -> GroundTruthOf:
    """The marks planted beside objects; where there are some, only such objects are studied."""

    def truth_of(sample: Sample, index: int) -> GroundTruth | None:
        mark = data.mark(sample, index)
        return GroundTruth(mark) if mark is not None or data.marked is None else None

    return truth_of


def faithfulness(
    asked: Sequence[Contestant],
    dataset: Dataset,
    methods: Sequence[str],
    objects: int,
    out: Path,
    seed: int,
    about: Mapping[str, Any],
    truth_of: GroundTruthOf = lambda *_: GroundTruth(),
) -> Explained:
    """Judge the maps of `objects` true objects that all detectors find, in images drawn by `seed`.

    With several trainings of each detector, those of one seed are a round with its share of the
    objects; all rounds take the images in one order. Writes faithfulness.csv (the means), pairs.csv
    (the paired tests), objects.json (every map's scores) and index.html. Ctrl-C ends the sample
    early, and the finished part is written. Raises ValueError where no object is found by all.
    """
    methods = [*methods, *(name for name in BASELINES if name not in methods)]
    rows = _rows(asked, dataset, methods, objects, seed, truth_of)
    if not rows:
        raise ValueError(
            f"no object of {dataset.split} is found by all {len(asked)} detectors at a score of "
            f"{FAINT} and an IoU of {SAME}: train longer, or name fewer runs"
        )
    return write_study(pd.DataFrame(rows), dataset, methods, out, seed, about)


def _rows(
    asked: Sequence[Contestant],
    dataset: Dataset,
    methods: Sequence[str],
    objects: int,
    seed: int,
    truth_of: GroundTruthOf,
) -> list[dict[str, Any]]:
    """One row for each object, detector and method; interrupted, of the objects that are done.

    The rounds take turns, so that an interrupted study has something of each.
    """
    rounds = by_seed(asked)
    rows: list[dict[str, Any]] = []
    total = objects * len(asked) // len(rounds) * len(methods)
    with (
        suppress(KeyboardInterrupt),
        Progress(total, "faithfulness", "maps") as bar,
    ):
        judged = []
        for place, (training, some) in enumerate(rounds.items()):
            count = objects // len(rounds) + (place < objects % len(rounds))
            about = {ROUND: training} if len(rounds) > 1 else {}
            judged.append(_judged(some, dataset, methods, count, seed, truth_of, about, bar))
        for turn in zip_longest(*judged, fillvalue=()):
            rows += chain.from_iterable(turn)
    return rows


def _judged(
    asked: Sequence[Contestant],
    dataset: Dataset,
    methods: Sequence[str],
    objects: int,
    seed: int,
    truth_of: GroundTruthOf,
    about: Mapping[str, Any],
    bar: Progress,
) -> Iterator[list[dict[str, Any]]]:
    """Object by object, a row for each detector and method; each row begins with `about`."""
    left = objects
    for place in np.random.default_rng(seed).permutation(len(dataset.samples)):
        sample = dataset.samples[place]
        known = {index: truth_of(sample, index) for index in range(len(sample.boxes))}
        if not left or not any(known.values()):
            continue
        found = [one for one in common(asked, sample) if known[one[0]] is not None]
        for index, by in found[: min(left, AN_IMAGE)]:
            rows = _of_object(asked, sample, index, by, methods, known[index], seed, bar)
            yield [{**about, **row} for row in rows]
            left -= 1


def _of_object(
    asked: Sequence[Contestant],
    sample: Sample,
    index: int,
    by: Objects,
    methods: Sequence[str],
    known: GroundTruth,
    seed: int,
    bar: Progress,
) -> list[dict[str, Any]]:
    """One row for each detector and method."""
    about = {"image": sample.id, "unit": sample.id if sample.group is None else sample.group}
    rows = []
    for contestant in asked:
        scores = _scores(contestant, sample, index, by[contestant.name], methods, known, seed)
        of = about | {"object": index, "detector": contestant.name}
        rows += [of | {"method": method} | found for method, found in scores.items()]
        bar.advance(len(methods))
    return rows


def _scores(
    contestant: Contestant,
    sample: Sample,
    index: int,
    found: tuple[Detections, int],
    methods: Sequence[str],
    known: GroundTruth,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """method -> scores of the map of one detector's detection of the sample's object `index`."""
    detections, i = found
    view = look(contestant.detector, sample.image)
    (box,) = view.boxes(detections.boxes[i : i + 1])
    truth = view.boxes(sample.boxes)
    others = [k for k in range(len(truth)) if k != index]
    detector, without = contestant.detector, known.without
    return judge(
        detector,
        view.near(box),
        Asked(box, int(detections.labels[i])),
        truth[index : index + 1],
        truth[others],
        methods,
        mark=None if known.mark is None else view.boxes(known.mark),
        without=None if without is None else pixels_of(detector, without),
        fast=contestant.fast,
        seed=seed,
    )


def common(asked: Sequence[Contestant], sample: Sample) -> list[tuple[int, Objects]]:
    """The sample's objects that every detector finds: index -> detector -> its detection."""
    by = {c.name: c.detector.predict(sample.image, score_threshold=FAINT) for c in asked}
    found = []
    for index in (~sample.crowd).nonzero()[:, 0].tolist():
        mine: Objects = {}
        for name, detections in by.items():
            overlap = iou(detections.boxes, sample.boxes[index : index + 1])[:, 0]
            same = (overlap > SAME) & (detections.labels == sample.labels[index])
            if same.any():
                mine[name] = (detections, int(same.nonzero()[0, 0]))  # the best scored
        if len(mine) == len(by):
            found.append((index, mine))
    return found
