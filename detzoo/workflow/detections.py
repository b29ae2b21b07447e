"""The files of a scored run: predictions.json and dataset.json, and the notes of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detzoo.data import Dataset, with_proposals
from detzoo.detector import Detector
from detzoo.engine.folding import inspect_folding
from detzoo.engine.precision import Mode
from detzoo.engine.predict import predict_dataset
from detzoo.files import write_json
from detzoo.report.images import photographs
from detzoo.workflow import heatmaps
from detzoo.workflow.coverage import COVERAGE, measure_coverage


def write(
    path: Path,
    detector: Detector,
    dataset: Dataset,
    val: Dataset | None,
    scores: tuple[Any, list[dict[str, Any]], dict[str, Any]],
    mode: Mode,
    *,
    images: bool,
) -> None:
    """Write what `score` gave, the metrics last, since they mark the result as complete.

    val: if the test split was scored, the images for choosing a threshold. images: keep photographs
    of the test split.
    """
    truth, results, found = scores
    protocol, suffix = found["fingerprint"], "" if val is not None else f"-{found['split']}"
    if val is not None:
        write_val_detections(path, detector, val, protocol, protocol["batch"], mode)
    about = write_detections(path, dataset, truth, results, found)
    if val is not None:
        heatmaps.write_heatmaps(detector, about, path / "heatmaps.json")
        if images:
            photographs.save_photographs(about, path)
    write_json(path / f"metrics{suffix}.json", found)


def write_detections(
    path: Path,
    dataset: Dataset,
    truth: Mapping[str, Any],
    results: list[dict[str, Any]],
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """Write predictions.json and dataset.json; returns the content of the second.

    The test split's, which reports read, have plain names; those of another split are
    predictions-val.json and so on, and record the weights. found: the metrics.
    """
    suffix = "" if found["split"] == "test" else f"-{found['split']}"
    about = describe_images(dataset)
    if suffix:
        about["weights_hash"] = found["fingerprint"]["weights_hash"]
    about |= truth
    write_json(path / f"predictions{suffix}.json", results, indent=None)
    write_json(path / f"dataset{suffix}.json", about, indent=None)
    return about


def describe_scoring(detector: Detector, dataset: Dataset) -> dict[str, Any]:
    """The fields of metrics.json about the detector: folding, proposals, notes."""
    folded = inspect_folding(detector)
    found: dict[str, Any] = {"folding": folded.describe()}
    found["notes"] = [folded.warning] if folded.warning else []
    if detector.proposer is not None:
        found["proposals"] = measure_coverage(dataset, detector)
        if found["proposals"]["recall50"] is not None:
            found["notes"].append(COVERAGE.format(**found["proposals"]))
    return found


def write_val_detections(
    path: Path,
    detector: Detector,
    dataset: Dataset,
    protocol: dict[str, Any],
    batch_size: int,
    mode: Mode,
) -> None:
    """Write predictions-val.json, and dataset-val.json with the weights' hash."""
    results = predict_dataset(
        detector,
        with_proposals(dataset, detector.proposer),
        resize=detector.resize,
        batch_size=batch_size,
        device=protocol["device"],
        **asdict(mode),
    )
    weights = {"weights_hash": protocol["weights_hash"]}
    write_json(path / "predictions-val.json", results, indent=None)
    write_json(
        path / "dataset-val.json", describe_images(dataset) | weights | dataset.coco(), indent=None
    )


def describe_images(dataset: Dataset) -> dict[str, Any]:
    """The fields of dataset.json beside COCO's ground truth."""
    return {
        "name": dataset.name,
        "split": dataset.split,
        "hash": dataset.hash,
        "root": str(dataset.root.resolve()),
        "classes": dataset.classes,
        "category_ids": dataset.category_ids,
    }
