"""The stages of one run that use a data set: training and scoring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

import detzoo
from detzoo.config import build
from detzoo.data import Dataset, with_proposals
from detzoo.data.loader import Batches
from detzoo.detector import Detector
from detzoo.engine import checkpoint, distributed, status
from detzoo.engine.checkpoint import seed_everything
from detzoo.engine.log import write_events
from detzoo.engine.precision import Mode, describe_detector
from detzoo.engine.predict import predict_dataset
from detzoo.engine.status import stage
from detzoo.engine.train import train
from detzoo.files import write_json, write_text
from detzoo.metrics import bootstrap, coco
from detzoo.progress import may_draw_bar, print_note
from detzoo.run_config import SCORED, copy_proposer
from detzoo.speed.machine import environment
from detzoo.workflow import detections, start_weights, thresholds
from detzoo.workflow.provenance import provenance
from detzoo.workflow.runtimes import attach
from detzoo.workflow.settings import (
    Settings,
    decoding_of,
    part,
    read_moved,
    read_or_empty,
    runtime_of_run,
    source,
    trained,
)

VALIDATION_BATCH = 16


def train_run(settings: Settings, path: Path, until: int | None = None) -> None:
    """Train into `path`; an interrupted run is resumed, a finished one is left alone.

    until: a number of images after which it is left as if it were cut off there.
    Raises ValueError where another process on this machine is training into it.
    """
    first = distributed.is_main_process()
    if trained(path):
        if first:
            print(f"{path}: trained already")
            if settings["runtime"].get("tensorboard"):
                write_events(path)
        return
    if first:
        _begin(settings, path)
    run = settings["runtime"]
    device = torch.device(run["device"])
    with suppress(status.Paused), distributed.stage(path, "train"), decoding_of(run):
        if first:
            write_json(path / "environment.json", environment(device, run["precision"]))
        detector = _new_detector(settings, path)
        training, validation = _datasets(settings, detector)
        train(
            detector,
            _batches(settings, training, detector, pin=device.type == "cuda"),
            part(settings, "recipe"),
            path,
            device=device,
            precision=run["precision"],
            channels_last=run["channels_last"],
            sync_batch_norm=run.get("sync_batch_norm", False),
            seed=settings["seed"],
            validate=validation_of(validation, run),
            until=until,
            tensorboard=run.get("tensorboard", False),
        )
    if first and (now := status.read(path) or {}):
        minutes, seen = (now["train_seconds"] or 0) / 60, now["images_seen"] or 0
        print_note(f"trained on {seen:,} images in {minutes:.1f} min")


def _begin(settings: Settings, path: Path) -> None:
    """Write config.yaml. Raises ValueError where another process is training into the run."""
    now = status.read(path) or {}
    if now.get("state") == "running":
        raise ValueError(f"{path} is being trained already, by {status.describe_process(now)}")
    write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False))


def _new_detector(settings: Settings, path: Path) -> Detector:
    """The detector before its training, with random weights or those that `start` names.

    Weights are not fetched if the run's checkpoint has them all. Raises ValueError for a detector
    without trainable weights.
    """
    seed_everything(settings["seed"])
    detector = build(settings["detector"], "detector")
    first = distributed.is_main_process()
    if not (path / checkpoint.FILE).exists():
        start_weights.begin(detector, settings, path if first else None)
        detector.check_trainable()
    if first:
        copy_proposer(settings, path)
    detector.resize = part(settings, "resize")
    return detector


def _datasets(settings: Settings, detector: Detector) -> tuple[Dataset, Dataset]:
    """Train and val, with the regions that the detector looks at, computed once and kept."""
    data = source(settings)
    with distributed.main_process_first():
        training, validation = (
            with_proposals(data.read(split), detector.proposer) for split in ("train", "val")
        )
    return training, validation


def _batches(settings: Settings, training: Dataset, detector: Detector, *, pin: bool) -> Batches:
    """The training batches of this process, augmented. pin: in page-locked memory."""
    recipe, run = part(settings, "recipe"), settings["runtime"]
    return Batches(
        training,
        batch_size=recipe.batch_size,
        images_seen=recipe.most_images,
        resize=detector.resize,
        augment=part(settings, "augment"),
        stride=detector.stride,
        seed=settings["seed"],
        workers=run["workers"],
        pin=pin,
        cache_mb=run["cache_mb"],
        rank=distributed.rank(),
        processes=distributed.processes(),
    )


def validation_of(
    dataset: Dataset, run: Mapping[str, Any]
) -> Callable[[Detector], dict[str, float]]:
    """A function that scores a detector on that data set during its training in the runtime
    `run`."""
    truth = dataset.coco()

    def validate(detector: Detector) -> dict[str, float]:
        results = predict_dataset(
            detector,
            dataset,
            resize=detector.resize,
            batch_size=VALIDATION_BATCH,
            device=run["device"],
            precision=run["precision"],
            channels_last=run["channels_last"],
            progress=False,
        )
        found = coco.evaluate(truth, results)
        return {"AP": found["AP"], "AP50": found["AP50"]}

    return validate


def evaluate_run(
    path: Path,
    *,
    split: str = "test",
    batch_size: int = 8,
    backend: str = "auto",
    resamples: int = 1000,
    again: bool = False,
    compile: bool = False,
    timed: Detector | None = None,
    data_root: str | None = None,
    images: bool = True,
    **other: Any,
) -> dict[str, Any]:
    """Score a trained run on a split; writes predictions.json, dataset.json and metrics.json.

    The test split's, which reports read, have these names; another split's are predictions-val.json
    and so on. Scoring on test also writes predictions-val.json and dataset-val.json, and
    thresholds.json, which is chosen on them: a threshold chosen on the images that judge it would
    be biased. images: keep some of the test split in the run, for reports. data_root: where the
    data set is now, if it was moved.

    other: of the runtime (device, precision, channels_last), where it differs from the training's.
    timed: the run's detector as the clock left it, to be scored unchanged, with the resize that it
    was timed with; else it is loaded. A run that was scored before, by the same protocol on the
    same images, is not scored again unless `again`.
    """
    settings = read_moved(path, SCORED, data_root)
    run = runtime_of_run(settings, other)
    mode = Mode(run["precision"], run["channels_last"], compile)
    dataset = source(settings).read(split)
    if not trained(path):
        raise ValueError(f"{path} is not trained to its end, so it is not scored")
    detector = timed
    if detector is None:
        detector = attach(detzoo.load(path, run["device"]), path, settings)
    protocol = _protocol(detector, settings, run, dataset, batch_size, mode)
    suffix = "" if split == "test" else f"-{split}"
    before = read_or_empty(path / f"metrics{suffix}.json")
    if not again and before.get("fingerprint") == protocol:
        if split == "test" and not thresholds.is_current(path):  # scored before there were any
            thresholds.write_thresholds(path, resamples)
        return before
    with stage(path, "evaluate"), decoding_of(run):
        how = {"batch_size": batch_size, "backend": backend, "resamples": resamples}
        how["max_dets"] = protocol["max_dets"]
        truth, results, found = score(detector, dataset, run["device"], mode, **how)
        found |= {"split": split, "score_threshold": protocol["score_threshold"]}
        found |= detections.describe_scoring(detector, dataset) | {"fingerprint": protocol}
        val = source(settings).read("val") if split == "test" else None
        detections.write(path, detector, dataset, val, (truth, results, found), mode, images=images)
        if split == "test":
            thresholds.write_thresholds(path, resamples)
    ap, ap50 = ("n/a" if found[k] is None else f"{found[k]:.3f}" for k in ("AP", "AP50"))
    print_note(f"AP {ap}, AP50 {ap50} on {split}")
    return found


def _protocol(
    detector: Detector,
    settings: Settings,
    run: Mapping[str, Any],
    dataset: Dataset,
    batch_size: int,
    mode: Mode,
) -> dict[str, Any]:
    """The object of a score, in the runtime `run`: the fingerprint of metrics.json."""
    found = {
        **describe_detector(detector, detector.resize, run["device"], mode),
        **provenance(settings, dataset),
        "batch": batch_size,
    }
    if "decoder" in run:  # not the default
        found["decoder"] = run["decoder"]
    return found


def score(
    detector: Detector,
    dataset: Dataset,
    device: str,
    mode: Mode,
    *,
    batch_size: int = 8,
    backend: str = "auto",
    resamples: int = 1000,
    max_dets: int = 100,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The truth and the results (both in COCO's form) and the metrics of this detector,
    unchanged."""
    truth = dataset.coco()
    coco.self_check(truth, backend=backend)
    results = predict_dataset(
        detector,
        with_proposals(dataset, detector.proposer),
        resize=detector.resize,
        batch_size=batch_size,
        device=device,
        **asdict(mode),
    )
    found = coco.evaluate(truth, results, backend=backend, max_dets=max_dets)
    found |= bootstrap.uncertainty(
        truth,
        results,
        n=resamples,
        max_dets=max_dets,
        progress=sys.stderr.isatty() and may_draw_bar(),
    )
    return truth, results, found
