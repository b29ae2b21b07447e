"""The folds of a small data set as one run, every image scored by the fold that never saw it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from detzoo.engine.status import stage
from detzoo.files import check_writable, read_json, write_json, write_text
from detzoo.metrics import bootstrap, coco
from detzoo.report import text_table
from detzoo.report.images import photographs
from detzoo.run_config import read_run
from detzoo.workflow import thresholds
from detzoo.workflow.select import select
from detzoo.workflow.settings import directory, read_or_empty
from detzoo.workflow.verb import Result, takes_settings

FINGERPRINT = ("dataset_hash", "weights_hash", "max_dets", "score_threshold")


@dataclass(frozen=True, repr=False)
class PooledRuns(Result):
    """The pooled run directories; each is scored and can be reported as any run.

    failed: the first fold of a detector that could not be pooled -> error.
    """

    paths: Sequence[Path]
    failed: Mapping[Path, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each pooled run: AP of all detections in one list, and of each fold."""
        metrics = [read_json(path / "metrics.json") for path in self.paths]
        rows = [
            {"run": str(path), "AP": found["AP"], "folds": [fold["AP"] for fold in found["folds"]]}
            for path, found in zip(self.paths, metrics, strict=True)
        ]
        return pd.DataFrame(rows, columns=["run", "AP", "folds"])

    def text(self) -> str:
        lines = [f"{text_table(self.paths)}\n"] if self.paths else []
        for row in self.frame.itertuples():
            folds = ", ".join(f"{ap:.3f}" for ap in row.folds)
            lines.append(f"{row.run}: AP of the folds {folds}")
        return "\n".join(lines)


@takes_settings
def pool(
    runs: str | Path | Sequence[str | Path], *, out: str | Path | None = None, resamples: int = 1000
) -> PooledRuns:
    """Pool the scored folds of every detector among `runs` into one run directory below `out`.

    out: by default the folder of the runs with "-pooled" behind its name. resamples: of the images,
    for the intervals. Raises ValueError where no run was trained on a fold; a detector whose folds
    are not complete fails alone.
    """
    paths = select(runs)
    folder = paths[0].resolve().parent
    out = Path(out or folder.with_name(f"{folder.name}-pooled"))
    check_writable(out / "config.yaml")
    made: list[Path] = []
    failed: dict[Path, str] = {}
    for group in fold_groups(paths).values():
        try:
            made.append(pool_folds(group, out, resamples))
        except (ValueError, OSError) as error:
            failed[group[0]] = str(error)
    return PooledRuns(made, failed)


def fold_groups(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The runs that differ in nothing but their fold, by what they share.

    Raises ValueError where none was trained on a fold.
    """
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


def pool_folds(paths: Sequence[Path], out: Path, resamples: int = 1000) -> Path:
    """One directory from the scored folds of one detector, reported like any run.

    Its test set is every image, with the detections of the fold that tested it; its val likewise.
    AP is over all detections in one list, so the scores of all folds must be comparable; the folds'
    own APs are recorded too. Raises ValueError, naming the run, where a fold is missing or
    duplicated, was not scored on its test split, or was scored differently from the first.
    """
    settings = [read_run(path, ["data"], data=False) for path in paths]
    paths = _by_fold(paths, settings)
    metrics = [_scored(path) for path in paths]
    protocol = _protocol(metrics[0])
    for path, scores in zip(paths, metrics, strict=True):
        differs = [key for key, value in _protocol(scores).items() if value != protocol.get(key)]
        if differs:
            raise ValueError(
                f"{path}: scored otherwise than {paths[0].name} ({', '.join(differs)}); detzoo "
                "evaluate both in one way"
            )
    hashes = {
        key: _hash([scores["fingerprint"][key] for scores in metrics])
        for key in ("dataset_hash", "weights_hash")
    }
    shared = _shared(settings[0]) | {"name": out.name}
    path = directory({**shared, "label": settings[0]["label"]}, out.parent)
    write_text(path / "config.yaml", yaml.safe_dump(shared, sort_keys=False))
    with stage(path, "evaluate"):
        _join(paths, path, "-val", weights_hash=hashes["weights_hash"])
        truth, results = _join(paths, path, "", hash=hashes["dataset_hash"])
        found = coco.evaluate(truth, results, max_dets=protocol["max_dets"])
        found |= bootstrap.uncertainty(
            truth,
            results,
            n=resamples,
            max_dets=protocol["max_dets"],
            progress=sys.stderr.isatty(),
        )
        found |= {"split": "test", "score_threshold": protocol["score_threshold"]}
        found["folds"] = [
            {"run": run.name, "AP": scores["AP"]}
            for run, scores in zip(paths, metrics, strict=True)
        ]
        found["fingerprint"] = {**metrics[0]["fingerprint"], **hashes}
        for run in paths:
            photographs.copy_photographs(run, path)
        write_json(path / "metrics.json", found)
        thresholds.write_thresholds(path, resamples)
    return path


def _by_fold(paths: Sequence[Path], settings: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The runs in the order of their folds. Raises ValueError unless each fold is there once."""
    count = settings[0]["data"]["folds"]
    numbers = [of_run["data"].get("fold", 0) for of_run in settings]
    if sorted(numbers) != list(range(count)):
        raise ValueError(
            f"{settings[0]['label']}: of {count} folds there are "
            f"{', '.join(map(str, sorted(numbers)))} in {paths[0].parent}; each is needed once"
        )
    return [path for _, path in sorted(zip(numbers, paths, strict=True))]


def _join(
    paths: Sequence[Path], out: Path, suffix: str, **hashes: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the truth and the predictions of all folds into `out`, and return them.

    suffix: of the files' names. hashes: entries of dataset.json.
    """
    truth = _truths([read_json(run / f"dataset{suffix}.json") for run in paths]) | hashes
    results = [r for run in paths for r in read_json(run / f"predictions{suffix}.json")]
    write_json(out / f"predictions{suffix}.json", results, indent=None)
    write_json(out / f"dataset{suffix}.json", truth, indent=None)
    return truth, results


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all folds of a cross-validation share."""
    data = {key: value for key, value in settings["data"].items() if key != "fold"}
    rest = {key: value for key, value in settings.items() if key not in ("name", "train_hash")}
    return {**rest, "data": data}


def _scored(path: Path) -> dict[str, Any]:
    """metrics.json of a run that was scored on its test split; ValueError for one that was not."""
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
    """The scoring protocol, which must be equal for all folds."""
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
