"""The page and the tables of judged maps: means with intervals, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from detzoo.data import Dataset
from detzoo.explain.faithfulness import LAYER, ORACLE, SCORES
from detzoo.explain.methods import METHODS
from detzoo.explain.statistics import (
    ROUND,
    compare,
    detector_sentence,
    limits_text,
    mark_sentences,
    method_sentence,
    p_text,
    ranking_sentence,
    summarise,
)
from detzoo.files import write_json, write_text
from detzoo.metrics.samples import FEWEST
from detzoo.report.page.explained import Score, Tests
from detzoo.text import number_text
from detzoo.workflow.explain import Explained, write_page

TOO_FEW = (
    f"From fewer than {FEWEST} images there are no intervals, and no test can tell anything apart: "
    "ask for more objects."
)
ROUNDS = (
    "They come from {} trainings of each detector, by other seeds, each asked over its own "
    "objects; intervals are over images, and say nothing of trainings that were not done."
)
PASTED = (
    'Each object was pasted into its image, and "oracle" is the map of how much each pixel differs '
    "from the image without it. Deletion and insertion go between these two images, so that "
    "nothing but the object can change the score."
)
TESTED = ("insertion", "deletion", "energy")  # between all pairs


def write_study(
    table: pd.DataFrame,
    dataset: Dataset,
    methods: Sequence[str],
    out: Path,
    seed: int,
    about: Mapping[str, Any],
) -> Explained:
    """Write all results about judged maps. table: one row per map, as in objects.json."""
    summary, pairs = summarise(table, seed), paired_tests(table, seed)
    own = [method for method in methods if method in METHODS]
    several, known = table["detector"].nunique() > 1, ORACLE in set(table["method"])
    between = [detector_sentence(table, summary, method) for method in own if several]
    sentences = [
        *mark_sentences(table, own or methods[:1]),
        *(
            ranking_sentence(table, score, method)
            for score in TESTED
            for method in own[:1]
            if known
        ),
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
            *[PASTED] * known,
            *([ROUNDS.format(table[ROUND].nunique())] if ROUND in table else []),
            *[TOO_FEW] * (table["unit"].nunique() < FEWEST),
        ],
        **about | {"detectors": list(table["detector"].unique())},
    )
    return Explained(page, summary, sentences)


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
                number_text(row["difference"], "+.2f") + limits_text(row, "+.2f"),
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
        text = f"{row['mean']:.{digits}f}{limits_text(row, f'.{digits}f')}"
        cells.setdefault(row["detector"], {})[row[column]] = (
            text if np.isfinite(row["mean"]) else "n/a"
        )
    return cells
