"""Results of a program that we do not run: a COCO result file as a row among the runs.

It must be of the images that the runs were scored on. It is scored here, by our metrics and with
the runs' own ground truth; it has no speed of ours, no curve and no training, which are n/a. What
the file states of its speed is a note (report.load.stated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detzoo.files import read_json
from detzoo.metrics import bootstrap, coco
from detzoo.report.load.protocols import Group, format_value
from detzoo.report.load.results import read_results
from detzoo.report.load.runs import Run
from detzoo.report.load.stated import stated_latency
from detzoo.report.load.values import clean, dig, number

OF_IMAGES = ("dataset_hash", "split")


def ground_truth(runs: Sequence[Run]) -> tuple[dict[str, Any], str | None]:
    """The runs' dataset.json, of the images that were scored; {} and why, if none has it."""
    problem = None
    for run in runs:
        if run.external:
            continue
        value, reason = run.dataset()
        hash_ = dig(run.metrics, "fingerprint", "dataset_hash")
        if not isinstance(value, dict) or not isinstance(value.get("images"), list):
            problem = problem or reason or f"{run.path.name} has no dataset.json with images"
        elif hash_ is not None and value.get("hash", hash_) != hash_:
            problem = f"{run.path.name}: dataset.json is not of the images that were scored"
        else:
            return value, None
    return {}, problem or "no run has a dataset.json with images"


def most_detections(runs: Sequence[Run]) -> int:
    """max_dets that the runs of a table were scored with: it is in their fingerprint."""
    for run in runs:
        if (limit := number(run.metrics, "max_dets")) >= 1:
            return int(limit)
    return 100


def join_results(
    tables: Sequence[Group], results: Mapping[str, str | Path], *, n: int = 1000
) -> list[Group]:
    """The tables with a row for each of `results` (name -> file) in every one of them.

    ValueError names the file that cannot join, and why: no run to compare with, runs that were
    scored on different images, a name that is taken, what is no COCO result of these images.
    """
    if not results:
        return list(tables)
    if not tables:
        raise ValueError(
            f"{', '.join(results)}: no run was scored, so there is no ground truth to score "
            "result files with"
        )
    found = {
        format_value([table.fields.get(f"accuracy.{key}") for key in OF_IMAGES]) for table in tables
    }
    if len(found) > 1:
        raise ValueError(
            f"{', '.join(results)}: the runs were scored on different images "
            f"({'; '.join(sorted(found))}); result files can join runs of one test set only"
        )
    whole = []
    for table in tables:
        truth, problem = ground_truth(table.runs)
        if problem:
            raise ValueError(f"{', '.join(results)}: there is no ground truth: {problem}")
        labels = {run.label for run in table.runs}
        for name in results:
            if name in labels:
                raise ValueError(f"{name}={results[name]}: a run has that name; give another one")
        rows = [score(name, Path(file), truth, table.runs, n=n) for name, file in results.items()]
        whole.append(replace(table, runs=(*table.runs, *rows)))
    return whole


def score(
    name: str, file: Path, truth: Mapping[str, Any], runs: Sequence[Run], *, n: int = 1000
) -> Run:
    """The file's results as a Run, scored as `runs` were. ValueError if it cannot be."""
    max_dets = most_detections(runs)
    try:
        held = read_json(file)
        latency = stated_latency(held)
        read_as = read_results(held, truth)
        results = read_as.found
        metrics = coco.evaluate(truth, results, max_dets=max_dets)
        metrics |= bootstrap.uncertainty(truth, results, n=n, max_dets=max_dets)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        reason = clean(error, 600).replace(f"{file}: ", "")
        raise ValueError(f"{name}={file}: {reason}") from None
    fingerprint = dig(runs[0].metrics, "fingerprint") or {}
    same = (*OF_IMAGES, "max_dets")
    metrics["fingerprint"] = {key: fingerprint[key] for key in same if key in fingerprint}
    on = len({result["image_id"] for result in results})
    return Run(
        path=file,
        state="done",
        ranked=True,
        problems=(
            f"{len(results):,} results in {clean(file.name, 100)}, on {on:,} of "
            f"{metrics['images']:,} images, by a program that was not run here: scored here, "
            "not timed",
            *([latency] if latency else []),
            *read_as.notes,
        ),
        config={"label": name, "detector": {"results": str(file)}},
        metrics=metrics,
        external=True,
        joined=results,
    )
