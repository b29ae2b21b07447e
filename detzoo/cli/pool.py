"""detzoo pool: the folds of a small data set as one run, every image found by who never saw it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from detzoo.cli.app import EXPECTED, app
from detzoo.config import plain
from detzoo.text import escaped

FINGERPRINT = ("dataset_hash", "weights_hash", "max_dets", "score_threshold")


@app("pool", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.cli.colours import painted
    from detzoo.files import check_writable, read_json
    from detzoo.report import text_table
    from detzoo.workflow.select import select

    wanted = plain(config)
    made, failed = [], 0
    check_writable(Path(wanted["out"]) / "config.yaml")
    for group in together(select(wanted["runs"])).values():
        try:
            made.append(pool(group, Path(wanted["out"]), wanted["resamples"]))
        except EXPECTED as error:  # one detector whose folds are not complete stops no other
            print(escaped(f"detzoo pool: {error}", lines=True), file=sys.stderr)
            failed = 1
    if made:
        print(f"{painted(text_table(made))}\n")
    for path in made:
        of_folds = [f"{fold['AP']:.3f}" for fold in read_json(path / "metrics.json")["folds"]]
        print(f"{path}: AP of the folds {', '.join(of_folds)}")
    return failed


def together(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The runs that differ in nothing but their fold, by what they share.

    Raises ValueError where none was trained on a fold.
    """
    from detzoo.run_config import read_run

    groups: dict[str, list[Path]] = {}
    for path in paths:
        settings = read_run(path, ["data"], data=False)
        if settings["data"].get("folds"):
            groups.setdefault(json.dumps(_shared(settings), sort_keys=True), []).append(path)
    if not groups:
        raise ValueError(
            "no run there was trained on a fold: detzoo train -m +data.folds=5 "
            "+data.fold=0,1,2,3,4, then detzoo evaluate"
        )
    return groups


def pool(paths: Sequence[Path], out: Path, resamples: int = 1000) -> Path:
    """One directory from the scored folds of one detector, to be reported as any run.

    Its test set is every image, found by the fold that it was the test of; its val likewise. AP is
    of all detections in one list, so the scores of all folds must mean the same; the folds' own APs
    stand beside it. Raises ValueError, naming the run, where a fold is missing, is there twice, was
    not scored on its test split, or was scored otherwise than the first.
    """
    from detzoo.engine.status import stage
    from detzoo.files import read_json, write_json, write_text
    from detzoo.metrics import bootstrap, coco
    from detzoo.run_config import read_run
    from detzoo.workflow import thresholds
    from detzoo.workflow.settings import directory

    settings = [read_run(path, ["data"], data=False) for path in paths]
    label, folds = settings[0]["label"], settings[0]["data"]["folds"]
    there = [of["data"].get("fold", 0) for of in settings]
    if sorted(there) != list(range(folds)):
        raise ValueError(
            f"{label}: of {folds} folds there are {', '.join(map(str, sorted(there)))} in "
            f"{paths[0].parent}; each is needed once"
        )
    paths = [path for _, path in sorted(zip(there, paths, strict=True))]
    metrics = [_scored(path) for path in paths]
    first = _protocol(metrics[0])
    for path, of in zip(paths, metrics, strict=True):
        if apart := [key for key, value in _protocol(of).items() if value != first.get(key)]:
            raise ValueError(
                f"{path}: scored otherwise than {paths[0].name} ({', '.join(apart)}); detzoo "
                "evaluate both in one way"
            )
    hashes = {
        key: _hash([of["fingerprint"][key] for of in metrics])
        for key in ("dataset_hash", "weights_hash")
    }
    path = directory({**_shared(settings[0]), "name": out.name, "label": label}, out.parent)
    write_text(
        path / "config.yaml",
        yaml.safe_dump({**_shared(settings[0]), "name": out.name}, sort_keys=False),
    )
    with stage(path, "evaluate"):
        for suffix in ("-val", ""):
            truth = _truths([read_json(run / f"dataset{suffix}.json") for run in paths])
            own = "weights_hash" if suffix else "dataset_hash"
            truth[own.replace("dataset_", "")] = hashes[own]
            results = [r for run in paths for r in read_json(run / f"predictions{suffix}.json")]
            write_json(path / f"predictions{suffix}.json", results, indent=None)
            write_json(path / f"dataset{suffix}.json", truth, indent=None)
        found = coco.evaluate(truth, results, max_dets=first["max_dets"])
        found |= bootstrap.uncertainty(
            truth,
            results,
            n=resamples,
            max_dets=first["max_dets"],
            progress=sys.stderr.isatty(),
        )
        found |= {"split": "test", "score_threshold": first["score_threshold"]}
        found["folds"] = [
            {"run": run.name, "AP": of["AP"]} for run, of in zip(paths, metrics, strict=True)
        ]
        found["fingerprint"] = {**metrics[0]["fingerprint"], **hashes}
        write_json(path / "metrics.json", found)
        thresholds.keep(path, resamples)
    return path


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What all folds of one cross-validation have."""
    data = {key: value for key, value in settings["data"].items() if key != "fold"}
    rest = {key: value for key, value in settings.items() if key not in ("name", "train_hash")}
    return {**rest, "data": data}


def _scored(path: Path) -> dict[str, Any]:
    from detzoo.workflow.settings import read_or_empty

    metrics = read_or_empty(path / "metrics.json")
    if metrics.get("split") != "test":
        raise ValueError(f"{path} was not scored on its test split: detzoo evaluate runs=[{path}]")
    known = metrics.get("fingerprint")
    lacks = [key for key in FINGERPRINT if not isinstance(known, dict) or key not in known]
    if lacks or "AP" not in metrics:
        raise ValueError(
            f"{path / 'metrics.json'} lacks {', '.join(lacks) or 'AP'}: detzoo evaluate {path}"
        )
    return metrics


def _protocol(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What every fold must have been scored with."""
    own = ("dataset_hash", "weights_hash")
    return {key: value for key, value in metrics["fingerprint"].items() if key not in own}


def _hash(parts: Sequence[str]) -> str:
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()


def _truths(truths: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One COCO ground truth; ValueError where two folds have one image."""
    images = [image for truth in truths for image in truth["images"]]
    if len({image["id"] for image in images}) < len(images):
        raise ValueError("two folds were scored on one image: the files changed between them")
    annotations = [dict(a) for truth in truths for a in truth["annotations"]]
    for id, annotation in enumerate(annotations, 1):
        annotation["id"] = id
    return {**truths[0], "images": images, "annotations": annotations}
