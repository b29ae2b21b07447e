"""What maps are worth: every detector and method over the same true objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from detzoo.data import Dataset, Source
from detzoo.data.dataset import Sample
from detzoo.explain.faithfulness import LAYER, ORACLE, SCORES, judge, oracle_map
from detzoo.explain.methods import BASELINES, METHODS
from detzoo.explain.statistics import (
    ROUND,
    compare,
    detector_sentence,
    interval_text,
    ladder_sentence,
    mark_sentence,
    method_sentence,
    p_text,
    summarise,
)
from detzoo.explain.target import SAME, Asked
from detzoo.explain.view import look
from detzoo.files import write_json, write_text
from detzoo.metrics.samples import FEWEST
from detzoo.ops.boxes import iou
from detzoo.report.page.explained import Score, Tests
from detzoo.types import Detections
from detzoo.workflow.contestants import Contestant, by_seed
from detzoo.workflow.explain import Explained, write_page

FAINT = 0.05  # the score from which an object counts as found here
TOO_FEW = (
    f"From fewer than {FEWEST} images there are no intervals, and no test can tell anything apart: "
    "ask for more objects."
)
ROUNDS = (
    "They come from {} trainings of each detector, by other seeds, each asked over its own "
    "objects; intervals are over images, and say nothing of trainings that were not done."
)
AN_IMAGE = 2  # objects at most: those of one image are not independent
TESTED = ("insertion", "deletion", "energy")  # between all pairs


@dataclass(frozen=True)
class Known:
    """What is known of an object because it was put there, in the image's pixels. mark: (2, 4)
    xyxy, a mark beside it and the place opposite. mask: (height, width) in [0, 1], its own
    pixels."""

    mark: Tensor | None = None
    mask: np.ndarray | None = None


# What is known of a sample's object of that index; None: it is not asked for
Knows = Callable[[Sample, int], Known | None]
Objects = dict[str, tuple[Detections, int]]  # detector -> its detections, which of them


def marks_of(data: Source) -> Knows:
    """The marks planted beside objects; where there are some, only such objects are studied."""

    def knows(sample: Sample, index: int) -> Known | None:
        mark = data.mark(sample, index)
        return Known(mark) if mark is not None or data.marked is None else None

    return knows


def faithfulness(
    asked: Sequence[Contestant],
    dataset: Dataset,
    methods: Sequence[str],
    objects: int,
    out: Path,
    seed: int,
    about: Mapping[str, Any],
    knows: Knows = lambda *_: Known(),
) -> Explained:
    """Judge the maps of `objects` true objects that all detectors find, in images drawn by `seed`.

    Of several trainings of each detector those of one seed are a round, with its part of the
    objects; the images come in one order for all rounds. Writes faithfulness.csv (the means),
    pairs.csv (the paired tests), objects.json (every map's scores) and index.html. Ctrl-C ends the
    sample early, and what is done is written. Raises ValueError where no object is found by all.
    """
    methods = [*methods, *(name for name in BASELINES if name not in methods)]
    rounds = by_seed(asked)
    rows: list[dict[str, Any]] = []
    for place, (training, some) in enumerate(rounds.items()):
        count = objects // len(rounds) + (place < objects % len(rounds))
        found = _judged(some, dataset, methods, count, seed, knows)
        rows += [row | ({ROUND: training} if len(rounds) > 1 else {}) for row in found]
    if not rows:
        raise ValueError(
            f"no object of {dataset.split} is found by all {len(asked)} detectors at a score of "
            f"{FAINT} and an IoU of {SAME}: train longer, or name fewer runs"
        )
    return write_study(pd.DataFrame(rows), dataset, methods, out, seed, about)


def write_study(
    table: pd.DataFrame,
    dataset: Dataset,
    methods: Sequence[str],
    out: Path,
    seed: int,
    about: Mapping[str, Any],
) -> Explained:
    """Write all that is said of judged maps. table: a row a map, as objects.json has them."""
    summary, pairs = summarise(table, seed), paired_tests(table, seed)
    own = [method for method in methods if method in METHODS]
    several, known = table["detector"].nunique() > 1, ORACLE in set(table["method"])
    between = [detector_sentence(table, summary, method) for method in own if several]
    sentences = [
        *mark_sentence(table, own[0] if own else methods[0]),
        *(ladder_sentence(table, score, method) for score in TESTED for method in own[:1] if known),
        *between[:1],
        *filter(None, (method_sentence(table, score) for score in ("insertion", "deletion"))),
        *between[1:],
    ]
    write_text(out / "faithfulness.csv", summary.to_csv(index=False))
    write_text(out / "pairs.csv", pairs.to_csv(index=False))
    write_json(out / "objects.json", table.replace({np.nan: None}).to_dict("records"))
    maps = [column for column in (ROUND, "image", "object") if column in table]
    count = len(table[maps].drop_duplicates())
    units = f"{table['unit'].nunique()} {'groups' if dataset.grouped else 'images'}"
    page = write_page(
        out,
        rows=(),
        methods=[*methods, *[ORACLE] * known],
        scores=[*tables(summary), *round_tables(table, own, seed), *layer_tables(summary, own)],
        tests=pair_tables(pairs),
        sentences=sentences[: len(sentences) - len(between[1:])],
        notes=[
            f"{count} objects of {units} of {dataset.split}, which all detectors find; "
            "objects that any of them misses are not among them.",
            *([ROUNDS.format(table[ROUND].nunique())] if ROUND in table else []),
            *[TOO_FEW] * (table["unit"].nunique() < FEWEST),
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
    knows: Knows,
) -> list[dict[str, Any]]:
    """One row for each object, detector and method; interrupted, of the objects that are done."""
    order = np.random.default_rng(seed).permutation(len(dataset.samples))
    rows: list[dict[str, Any]] = []
    left = objects
    total = objects * len(asked) * len(methods)
    with (
        suppress(KeyboardInterrupt),
        tqdm(total=total, desc="faithfulness", unit="map", disable=None) as bar,
    ):
        for sample in (dataset.samples[i] for i in order):
            known = {index: knows(sample, index) for index in range(len(sample.boxes))}
            found = [one for one in common(asked, sample) if known[one[0]] is not None]
            for index, by in found[: min(left, AN_IMAGE)]:
                rows += _of_object(asked, sample, index, by, methods, known[index], seed, bar)
                left -= 1
            if not left:
                break
    return rows


def _of_object(
    asked: Sequence[Contestant],
    sample: Sample,
    index: int,
    by: Objects,
    methods: Sequence[str],
    known: Known,
    seed: int,
    bar: tqdm,
) -> list[dict[str, Any]]:
    """One row for each detector and method."""
    about = {"image": sample.id, "unit": sample.id if sample.group is None else sample.group}
    rows = []
    for contestant in asked:
        scores = _scores(contestant, sample, index, by[contestant.name], methods, known, seed)
        of = about | {"object": index, "detector": contestant.name}
        rows += [of | {"method": method} | found for method, found in scores.items()]
        bar.update(len(methods))
    return rows


def _scores(
    contestant: Contestant,
    sample: Sample,
    index: int,
    found: tuple[Detections, int],
    methods: Sequence[str],
    known: Known,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """method -> scores of the map of one detector's detection of the sample's object `index`."""
    detections, i = found
    view = look(contestant.detector, sample.image)
    (box,) = view.boxes(detections.boxes[i : i + 1])
    truth = view.boxes(sample.boxes)
    others = [k for k in range(len(truth)) if k != index]
    return judge(
        contestant.detector,
        view.near(box),
        Asked(box, int(detections.labels[i])),
        truth[index : index + 1],
        truth[others],
        methods,
        mark=None if known.mark is None else view.boxes(known.mark),
        oracle=None if known.mask is None else oracle_map(view, known.mask),
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


def paired_tests(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Every pair of detectors by each method, and of methods over all detectors; p by Holm's
    correction within each score and, of detectors, each method."""
    found = []
    for score in TESTED:
        families = {"all detectors": (table, "method")}
        if table["detector"].nunique() > 1:
            for name, part in table.groupby("method", sort=False):
                if name in METHODS:
                    families[f"by {name}"] = (part, "detector")
        for where, (part, between) in families.items():
            about = {"score": score, "between": f"{between}s", "where": where}
            found += [about | asdict(pair) for pair in compare(part, score, between, seed)]
    return pd.DataFrame(found)


def pair_tables(pairs: pd.DataFrame) -> list[Tests]:
    """For the page: the methods' pairs, and the detectors' by the first method."""
    found = []
    for (score, between), part in pairs.groupby(["score", "between"], sort=False):
        of = part[part["where"] == part["where"].iloc[0]]
        rows = [
            (
                f"{row['first']} less {row['second']}",
                f"{row['difference']:+.2f}{interval_text(row, '+.2f')}",
                p_text(row["p"] if pd.notna(row["p"]) else None),
            )
            for row in of.to_dict("records")
        ]
        found.append(Tests(f"{score}, pairs of {between}, {of['where'].iloc[0]}", rows))
    return found


def tables(summary: pd.DataFrame) -> list[Score]:
    """A table for each score: a mean and its interval for every detector and method."""
    tables = []
    for name, score in SCORES.items():
        cells = _cells(summary[summary["score"] == name], "method")
        if any(text != "n/a" for row in cells.values() for text in row.values()):
            tables.append(Score(score.title, score.better, cells))
    return tables


def round_tables(table: pd.DataFrame, methods: Sequence[str], seed: int = 0) -> list[Score]:
    """Energy by the first method, a column for each training; [] of a single one."""
    if ROUND not in table or not methods:
        return []
    cells: dict[str, dict[str, str]] = {}
    for training, part in table[table["method"] == methods[0]].groupby(ROUND):
        column, means = f"seed {training}", summarise(part, seed)
        for name, row in _cells(means[means["score"] == "energy"], "score").items():
            cells.setdefault(name, {})[column] = row["energy"]
    columns = [f"seed {training}" for training in sorted(table[ROUND].unique())]
    return [Score(f"energy by {methods[0]}, training by training", "high", cells, columns)]


def layer_tables(summary: pd.DataFrame, methods: Sequence[str]) -> list[Score]:
    """A table for each method: agreement after each layer is randomised, a column a layer."""
    part = summary[summary["score"].str.startswith(LAYER)]
    columns = sorted(part["score"].unique(), key=_depth)
    title = "agreement with the map of a detector whose layers are randomised from the last on: "
    found = [(method, part[part["method"] == method]) for method in methods]
    return [
        Score(title + method, "low", _cells(of, "score"), columns)
        for method, of in found
        if len(of)
    ]


def _depth(layer: str) -> tuple[int, int]:
    """The order in which layers are randomised: head, neck, the backbone's last stage to first."""
    name = layer.removeprefix(LAYER)
    stage = name.removeprefix("backbone ")
    return (("head", "neck").index(name), 0) if name in ("head", "neck") else (2, -int(stage))


def _cells(part: pd.DataFrame, column: str) -> dict[str, dict[str, str]]:
    """detector -> value of `column` -> mean and interval."""
    cells: dict[str, dict[str, str]] = {}
    for row in part.to_dict("records"):
        digits = 2 if row["mean"] < 10 else 1
        text = f"{row['mean']:.{digits}f}{interval_text(row, f'.{digits}f')}"
        cells.setdefault(row["detector"], {})[row[column]] = (
            text if np.isfinite(row["mean"]) else "n/a"
        )
    return cells
