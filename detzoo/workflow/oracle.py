"""Oracle analysis: the score of a detector with parts of its predictions replaced by the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import detzoo
from detzoo.data import Dataset
from detzoo.data.loader import EvaluationBatches
from detzoo.data.resize import resize_boxes
from detzoo.detector import Detector
from detzoo.engine.precision import Mode, autocast, prepare, transfer
from detzoo.engine.predict import coco_results
from detzoo.files import write_json
from detzoo.ideal import parts_of, with_truth
from detzoo.metrics import coco
from detzoo.run_config import SCORED
from detzoo.types import Target, pad_targets
from detzoo.workflow.select import select
from detzoo.workflow.settings import print_traceback, read_moved, read_or_empty, runtime, source
from detzoo.workflow.verb import Result, takes_settings


@dataclass(frozen=True, repr=False)
class OracleScores(Result):
    """Scores of runs with parts of their predictions replaced by the truth.

    runs: run directory -> content of oracle.json: the split, device and mode, and of each number of
    true parts AP and AP50.
    """

    runs: Mapping[Path, Mapping[str, Any]]
    failed: Mapping[Path, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each run and number of true parts."""
        rows = [
            {"run": path.name, **row, "true": ", ".join(row["true"])}
            for path, found in self.runs.items()
            for row in found["parts"]
        ]
        return pd.DataFrame(rows, columns=["run", "true", "AP", "AP50"])

    def text(self) -> str:
        lines = []
        for path, found in self.runs.items():
            mode = Mode(found["precision"], found["channels_last"], found["compile"])
            lines.append(f"{path} ({mode})")
            for row in found["parts"]:
                what = f"true {', '.join(row['true'])}" if row["true"] else "as predicted"
                lines.append(f"  {what:<36}AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}")
        return "\n".join(lines)


@takes_settings
def oracle(
    runs: str | Path | Sequence[str | Path],
    *,
    split: str = "test",
    batch_size: int = 8,
    device: str | None = None,
    data_root: str | Path | None = None,
) -> OracleScores:
    """Score runs with none of a detector's outputs replaced by the truth, the first, the first two,
    ...

    Writes oracle.json into every run. device: None for that of the run's scoring, else of its
    training. data_root: where the data set is now, if it was moved. Raises ValueError where no
    detector has replaceable outputs.
    """
    paths = select(runs)
    scored: dict[Path, dict[str, Any]] = {}
    failed: dict[Path, str] = {}
    for path in paths:
        try:
            if found := _score(path, split, batch_size, device, data_root):
                scored[path] = found
        except Exception as error:  # one run that cannot be scored stops no other
            failed[path] = print_traceback(error)
    if not scored and not failed:
        raise ValueError(f"none of {', '.join(map(str, paths))} has parts that could be replaced")
    return OracleScores(scored, failed)


def _score(
    path: Path,
    split: str,
    batch_size: int,
    device: str | None,
    data_root: str | Path | None,
) -> dict[str, Any] | None:
    """Write oracle.json of a run and return it; None without replaceable outputs."""
    settings = read_moved(path, SCORED, data_root)
    device, mode = scoring_mode(path, settings, {"device": device} if device else {})
    detector = detzoo.load(path, device)
    if not parts_of(detector):
        print(f"{path}: a {type(detector).__name__} has no parts to replace")
        return None
    dataset = source(settings).read(split)
    prepare(detector, device, mode.channels_last, mode.compile, inference=True)
    parts = rescore(detector, dataset, batch_size, mode)
    found = {"split": split, "device": device, **asdict(mode), "parts": parts}
    write_json(path / "oracle.json", found)
    return found


def scoring_mode(
    path: Path, settings: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[str, Mode]:
    """Device and mode in which `detzoo evaluate` scored the run, else those of its training.

    changes: to the runtime, the device. Raises ValueError for a precision that it does not support.
    """
    scored = read_or_empty(path / "metrics.json").get("fingerprint") or {}
    fields = ("device", "precision", "channels_last")
    before = {key: scored[key] for key in fields if key in scored}
    run = runtime({**settings["runtime"], **before, **changes})
    return run["device"], Mode(run["precision"], run["channels_last"], bool(scored.get("compile")))


@torch.no_grad()
def rescore(
    detector: Detector, dataset: Dataset, batch_size: int = 8, mode: Mode | None = None
) -> list[dict[str, Any]]:
    """AP and AP50 with none of the detector's parts true, with the first, with the first two, ...

    mode: how the detector is prepared, by default fp32.
    """
    device, mode = detector.mean.device, mode or Mode()
    batches = EvaluationBatches(
        dataset, batch_size=batch_size, resize=detector.resize, stride=detector.stride
    )
    samples = {sample.id: sample for sample in dataset.samples}
    parts = parts_of(detector)
    stages = [parts[:count] for count in range(len(parts) + 1)]
    results: list[list[dict[str, Any]]] = [[] for _ in stages]
    for images in batches:
        pairs = [(samples[frame.id], frame) for frame in images.frames]
        targets = [
            Target(boxes=resize_boxes(s.boxes, frame), labels=s.labels, crowd=s.crowd)
            for s, frame in pairs
        ]
        targets = pad_targets(targets).to(device)
        with autocast(device, mode.precision):
            outputs = detector.network(transfer(images, device, mode.channels_last))
            for stage, found in zip(stages, results, strict=True):
                truer = with_truth(detector, outputs, targets, stage)
                found += coco_results(detector.decode(truer, images.sizes), images, dataset)
    truth = dataset.coco()
    scores = [coco.evaluate(truth, found) for found in results]
    return [
        {"true": list(stage), "AP": score["AP"], "AP50": score["AP50"]}
        for stage, score in zip(stages, scores, strict=True)
    ]
