"""What maps are worth: every detector and method over the same true objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from detzoo.data import Dataset
from detzoo.data.dataset import Sample
from detzoo.explain.faithfulness import SCORES, judge, randomised, sentence, summarise
from detzoo.explain.methods import BASELINES, METHODS
from detzoo.explain.target import SAME, Asked
from detzoo.explain.view import look
from detzoo.files import write_json, write_text
from detzoo.ops.boxes import iou
from detzoo.report.page.explained import Score
from detzoo.types import Detections
from detzoo.workflow.explain import Contestant, Explained, write_page

FAINT = 0.05  # the score from which an object counts as found here
AN_IMAGE = 2  # objects at most: those of one image are not independent

Objects = dict[str, tuple[Detections, int]]  # detector -> its detections, which of them


def faithfulness(
    asked: Sequence[Contestant],
    dataset: Dataset,
    methods: Sequence[str],
    objects: int,
    out: Path,
    seed: int,
    about: Mapping[str, Any],
) -> Explained:
    """Judge the maps of `objects` true objects that all detectors find, in images drawn by `seed`.

    Writes faithfulness.csv (the means), objects.json (every map's scores) and index.html. Raises
    ValueError where no object is found by all.
    """
    methods = [*methods, *(name for name in BASELINES if name not in methods)]
    rows = _judged(asked, dataset, methods, objects, seed)
    if not rows:
        raise ValueError(
            f"no object of {dataset.split} is found by all {len(asked)} detectors at a score of "
            f"{FAINT} and an IoU of {SAME}: train longer, or name fewer runs"
        )
    table = pd.DataFrame(rows)
    summary = summarise(table, seed)
    own = [method for method in methods if method in METHODS]
    sentences = [sentence(table, summary, method) for method in own] if len(asked) > 1 else []
    write_text(out / "faithfulness.csv", summary.to_csv(index=False))
    write_json(out / "objects.json", rows)
    count, images = len(rows) // (len(asked) * len(methods)), table["image"].nunique()
    page = write_page(
        out,
        rows=(),
        methods=methods,
        scores=tables(summary),
        sentences=sentences[:1],
        notes=[
            f"{count} objects of {images} images of {dataset.split}, which all detectors find; "
            "objects that any of them misses are not among them."
        ],
        **about,
    )
    return Explained(page, summary, sentences)


def _judged(
    asked: Sequence[Contestant],
    dataset: Dataset,
    methods: Sequence[str],
    objects: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One row for each object, detector and method."""
    shaken = {c.name: randomised(c.detector, seed) for c in asked}
    order = np.random.default_rng(seed).permutation(len(dataset.samples))
    rows: list[dict[str, Any]] = []
    left = objects
    total = objects * len(asked) * len(methods)
    with tqdm(total=total, desc="faithfulness", unit="map", disable=None) as bar:
        for sample in (dataset.samples[i] for i in order):
            for index, by in common(asked, sample)[: min(left, AN_IMAGE)]:
                left -= 1
                for contestant in asked:
                    about = {"image": sample.id, "object": index, "detector": contestant.name}
                    scores = _scores(
                        contestant,
                        sample,
                        index,
                        by[contestant.name],
                        methods,
                        seed,
                        shaken[contestant.name],
                    )
                    rows += [about | {"method": m} | found for m, found in scores.items()]
                    bar.update(len(methods))
            if not left:
                break
    return rows


def _scores(
    contestant: Contestant,
    sample: Sample,
    index: int,
    found: tuple[Detections, int],
    methods: Sequence[str],
    seed: int,
    shaken: Sequence[Any],
) -> dict[str, dict[str, float | None]]:
    """method -> scores of the map of one detector's detection of the sample's object `index`."""
    detections, i = found
    view = look(contestant.detector, sample.image)
    (box,) = view.boxes(detections.boxes[i : i + 1])
    truth = view.boxes(sample.boxes)
    asked = Asked(box, int(detections.labels[i]))
    others = [k for k in range(len(truth)) if k != index]
    return {
        method: judge(
            contestant.detector,
            view,
            asked,
            truth[index : index + 1],
            truth[others],
            method,
            seed=seed,
            shaken=shaken,
        )
        for method in methods
    }


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


def tables(summary: pd.DataFrame) -> list[Score]:
    """A table for each score: a mean and its interval for every detector and method."""
    tables = []
    for name, score in SCORES.items():
        part = summary[summary["score"] == name]
        cells: dict[str, dict[str, str]] = {}
        for row in part.to_dict("records"):
            digits = 2 if row["mean"] < 10 else 1
            text = f"{row['mean']:.{digits}f}"
            if np.isfinite(row["low"]):
                text += f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
            cells.setdefault(row["detector"], {})[row["method"]] = (
                text if np.isfinite(row["mean"]) else "n/a"
            )
        if cells:
            tables.append(Score(score.title, score.better, cells))
    return tables
