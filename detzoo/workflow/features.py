"""Learned features: those of the same objects, channels, and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from detzoo.data import Dataset
from detzoo.data.dataset import Sample
from detzoo.explain import features as ops
from detzoo.explain.ascent import REGULARISERS, class_image
from detzoo.explain.patches import Peaks
from detzoo.explain.statistics import compare, mean_interval, p_text
from detzoo.explain.target import SAME
from detzoo.explain.view import look
from detzoo.files import write_text
from detzoo.ops.boxes import iou
from detzoo.progress import Progress
from detzoo.report.page.features import Learned, Neighbour, render_features
from detzoo.text import interval_text
from detzoo.workflow.channels import PEAKS, channels
from detzoo.workflow.contestants import Contestant
from detzoo.workflow.explain import Explained, write_page
from detzoo.workflow.objects import Objects, objects_of

CLASSES_SHOWN = 12


def features(
    asked: Sequence[Contestant],
    train: Dataset,
    test: Dataset,
    objects: int,
    out: Path,
    seed: int,
    about: Mapping[str, Any],
    *,
    layer: str | None = None,
    channel: int | None = None,
) -> Explained:
    """Compare detectors' features of `objects` test objects with those of all objects of `train`.

    Writes features.csv (the numbers), objects.csv (each object's) and index.html. layer: a module
    of every detector by its name, else the input of its head. channel: whose patches are shown,
    else those that separate the classes best. Raises ValueError where there are too few objects.
    """
    known, queries = objects_of(train), objects_of(test, objects, seed)
    if len(known) < ops.NEIGHBOURS or len(queries) < 2:
        raise ValueError(
            f"{len(known)} objects to learn from and {len(queries)} to ask for are too few"
        )
    examples = {int(queries.labels[i]): i for i in reversed(range(len(queries)))}
    examples = dict(sorted(examples.items())[:CLASSES_SHOWN])
    looks = len(set(known.of)) + len(set(queries.of)) + len(examples)
    rows, learned = [], {}
    with Progress(looks * len(asked), "features", "images") as bar:
        for contestant in asked:
            of, learned[contestant.name] = _learned(
                contestant, known, queries, examples, layer, channel, seed, bar
            )
            rows += [{"detector": contestant.name, "method": "features", **row} for row in of]
    table = pd.DataFrame(rows)
    sentences = sentences_of(table)
    write_text(out / "objects.csv", table.to_csv(index=False))
    frame = _frame(table)
    write_text(out / "features.csv", frame.to_csv(index=False))
    more = render_features(
        classes=test.classes,
        labels=queries.labels.numpy(),
        examples={label: queries.picture(i) for label, i in examples.items()},
        learned=learned,
        regularisers=REGULARISERS,
    )
    notes = [
        f"{len(queries)} objects of {test.split}, neighbours among {len(known)} of {train.split}; "
        f"layer: {layer or 'what the head reads, the neck or the backbone'}."
    ]
    if not any("t-SNE" in of.plots for of in learned.values()):
        notes.append("No t-SNE: it needs scikit-learn, pip install 'detzoo[explain]'.")
    page = write_page(
        out, rows=(), methods=(), sentences=sentences, notes=notes, more=more, **about
    )
    return Explained(page, frame, sentences)


def _learned(
    contestant: Contestant,
    known: Objects,
    queries: Objects,
    examples: Mapping[int, int],
    layer: str | None,
    channel: int | None,
    seed: int,
    bar: Progress,
) -> tuple[list[dict[str, Any]], Learned]:
    """A row for each requested object, and what the page shows of one detector.

    examples: class -> the number of the object whose neighbours are shown.
    """
    detector, peaks = contestant.detector, Peaks(PEAKS)
    base, widths = _values(detector, known, layer, bar, peaks)
    values, _ = _values(detector, queries, layer, bar)
    base, values = ops.directions(base, widths), ops.directions(values, widths)
    near = ops.nearest(base, values)
    rows = _numbers(values, near, known, queries, _found(contestant, queries))
    neighbours = {
        label: [Neighbour(known.picture(j), int(known.labels[j])) for j in near[i].tolist()]
        for label, i in examples.items()
    }
    score = ops.class_separation(base, known.labels)
    shown = channels(detector, known.dataset, peaks, widths, score, layer, channel)
    like = queries.dataset.samples[queries.of[0]]
    classes = _classes(detector, examples, like, seed, bar)
    table = _table(pd.DataFrame(rows), values)
    return rows, Learned(table, _plots(values, seed), neighbours, shown, classes)


def _values(
    detector: Any, objects: Objects, layer: str | None, bar: Progress, peaks: Peaks | None = None
) -> tuple[Tensor, list[int]]:
    """(N, D) features of the objects, in their order, and the layer's channels level by level."""
    parts, widths = [], []
    for i in dict.fromkeys(objects.of.tolist()):
        sample = objects.dataset.samples[i]
        view = look(detector, sample.image)
        boxes = view.boxes(sample.boxes[objects.index[objects.of == i]])
        maps = ops.maps_at(detector, view, boxes, layer)
        parts.append(ops.features_of(maps, view, boxes))
        widths = maps.widths
        if peaks is not None:
            peaks.add(i, maps)
        bar.advance(1)
    return torch.cat(parts), widths


def _found(contestant: Contestant, objects: Objects) -> np.ndarray:
    """(N,) bool: whether the detector finds each object from its threshold on."""
    found = np.zeros(len(objects), bool)
    for i in dict.fromkeys(objects.of.tolist()):
        sample: Sample = objects.dataset.samples[i]
        seen = contestant.detector.predict(sample.image, score_threshold=contestant.score)
        for number in np.flatnonzero(objects.of == i):
            k = objects.index[number]
            overlap = iou(seen.boxes, sample.boxes[k : k + 1])[:, 0]
            found[number] = bool(((overlap >= SAME) & (seen.labels == sample.labels[k])).any())
    return found


def _numbers(
    values: Tensor, near: Tensor, known: Objects, queries: Objects, found: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each object, as `statistics` reads them."""
    votes = known.labels[near]
    right = ops.majority_vote(votes) == queries.labels
    own = (votes == queries.labels[:, None]).float().mean(1)
    columns = {
        "image": [queries.dataset.samples[i].id for i in queries.of],
        "unit": queries.units.tolist(),
        "object": queries.index.tolist(),
        "label": queries.labels.tolist(),
        "found": found.tolist(),
        "accuracy": right.float().tolist(),
        "own": own.tolist(),
        "silhouette": ops.silhouettes(values, queries.labels).tolist(),
    }
    return pd.DataFrame(columns).to_dict("records")


def _parts(of: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, str]]:
    """The counts of a detector: title -> (objects, column)."""
    return {
        "k-NN accuracy": (of, "accuracy"),
        "silhouette": (of, "silhouette"),
        "own class, found": (of[of["found"]], "own"),
        "own class, missed": (of[~of["found"]], "own"),
    }


def _mean(part: pd.DataFrame, column: str) -> tuple[float, float, float]:
    """Mean, low, high; NaN where undefined."""
    part = part[part[column].notna()]
    if part.empty:
        return np.nan, np.nan, np.nan
    values = part[column].to_numpy(float)
    limits = (-1.0, 1.0) if column == "silhouette" else (0.0, 1.0)
    return float(values.mean()), *mean_interval(values, part["unit"].to_numpy(), limits=limits)


def _table(of: pd.DataFrame, values: Tensor) -> dict[str, str]:
    cells = {
        "dimensions": str(values.shape[1]),
        "variance in PCA's plane": f"{ops.principal_components(values)[1].sum():.2f}",
        "found": f"{int(of['found'].sum())} of {len(of)}",
    }
    for title, (part, column) in _parts(of).items():
        mean, low, high = _mean(part, column)
        cells[title] = "n/a" if np.isnan(mean) else f"{mean:.2f} {interval_text(low, high, '.2f')}"
    return cells


def _frame(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each detector and number: mean, low, high, objects."""
    return pd.DataFrame(
        {"detector": name, "number": title, "objects": len(part)}
        | dict(zip(("mean", "low", "high"), _mean(part, column), strict=True))
        for name, of in table.groupby("detector", sort=False)
        for title, (part, column) in _parts(of).items()
    )


def sentences_of(table: pd.DataFrame) -> list[str]:
    """Whose features separate the classes best, and whether missed objects look like others."""
    means = table.groupby("detector", sort=False)["accuracy"].mean().sort_values(ascending=False)
    found = []
    if len(means) > 1:
        best, last = means.index[0], means.index[-1]
        (pair,) = (
            p for p in compare(table, "accuracy", "detector") if {p.first, p.second} == {best, last}
        )
        verb = "tell" if pair.apart else "do not tell"
        found.append(
            f"The features of {best} {verb} the classes apart better than those of {last}: k-NN "
            f"accuracy {means.iloc[0]:.2f} against {means.iloc[-1]:.2f}, {p_text(pair.p)}, "
            f"{pair.maps} objects."
        )
    missed = table[~table["found"]]
    if len(missed) and len(missed) < len(table):
        of = [_mean(part, "own") for part in (missed, table[table["found"]])]
        numbers = " against ".join(
            f"{m:.2f} {interval_text(low, high, '.2f')}" for m, low, high in of
        )
        found.append(
            f"Of the neighbours of missed objects a share of {numbers} of those of found ones is "
            f"of their own class ({len(missed)} missed, over all detectors)."
        )
    return found


def _plots(values: Tensor, seed: int) -> dict[str, np.ndarray]:
    plots = {"PCA": ops.principal_components(values)[0].numpy()}
    if (heaps := ops.tsne(values, seed)) is not None:
        plots["t-SNE"] = heaps.numpy()
    return plots


def _classes(
    detector: Any, examples: Mapping[int, int], like: Sample, seed: int, bar: Progress
) -> dict[int, tuple[Image.Image | None, str]]:
    """Class -> the image that makes its score rise, of the size of the sample's, and a caption."""
    found = {}
    for label in examples:
        made = class_image(detector, label, like.size, seed=seed)
        bar.advance(1)
        if made is None:
            found[label] = (None, "no candidate of the class to begin with")
        else:
            caption = f"score {made.before:.2f} to {made.score:.2f}"
            found[label] = (Image.fromarray(made.pixels), caption)
    return found
