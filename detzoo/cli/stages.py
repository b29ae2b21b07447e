"""The stages of one run that go through a data set: training and scoring."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import detzoo
from detzoo.cli.runs import Settings, read_or_empty, runtime, source, trained
from detzoo.config import build, load_yaml
from detzoo.data import with_proposals
from detzoo.data.loader import Batches
from detzoo.detector import Detector
from detzoo.engine.checkpoint import seed_everything
from detzoo.engine.predict import predict_dataset
from detzoo.engine.progress import alone
from detzoo.engine.status import stage
from detzoo.engine.train import train
from detzoo.files import write_json, write_text
from detzoo.metrics import bootstrap, coco
from detzoo.speed.machine import environment

VALIDATION_BATCH = 16


def train_run(settings: Settings, path: Path) -> None:
    """Train into `path`; a run that was cut off goes on, one that is done is left alone."""
    if trained(path):
        print(f"{path}: trained already")
        return
    write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    with stage(path, "train"):
        data = source(settings)
        run = settings["runtime"]
        device = torch.device(run["device"])
        write_json(path / "environment.json", environment(device, run["precision"]))
        recipe = build(settings["recipe"], "recipe")
        seed_everything(settings["seed"])
        detector = build(settings["detector"], "detector")
        detector.check_trainable()
        detector.resize = build(settings["resize"], "resize")
        batches = Batches(
            with_proposals(data.read("train"), detector.proposer),
            batch_size=recipe.batch_size,
            images_seen=recipe.images_seen,
            resize=detector.resize,
            augment=build(settings["augment"], "augment"),
            stride=detector.stride,
            seed=settings["seed"],
            workers=run["workers"],
            cache_mb=run["cache_mb"],
        )
        validation = with_proposals(data.read("val"), detector.proposer)
        truth = validation.coco()

        def validate(detector: Detector) -> dict[str, float]:
            results = predict_dataset(
                detector,
                validation,
                resize=detector.resize,
                batch_size=VALIDATION_BATCH,
                device=device,
                precision=run["precision"],
                channels_last=run["channels_last"],
                progress=False,
            )
            found = coco.evaluate(truth, results)
            return {"AP": found["AP"], "AP50": found["AP50"]}

        train(
            detector,
            batches,
            recipe,
            path,
            device=device,
            precision=run["precision"],
            channels_last=run["channels_last"],
            seed=settings["seed"],
            validate=validate,
        )


def evaluate_run(
    path: Path,
    *,
    split: str = "test",
    batch_size: int = 8,
    backend: str = "auto",
    resamples: int = 1000,
    again: bool = False,
    **other: Any,
) -> dict[str, Any]:
    """Score a trained run on a split; writes predictions.json, dataset.json and metrics.json.

    other: of the runtime (device, precision), where it shall not be the training's. What was scored
    before, by the same protocol on the same images, is not scored again unless `again`.
    """
    settings = load_yaml(path / "config.yaml")
    run = runtime(settings["runtime"] | {k: v for k, v in other.items() if v is not None})
    dataset = source(settings).read(split)
    if not trained(path):
        raise ValueError(f"{path} is not trained to its end, so it is not scored")
    detector = detzoo.load(path, run["device"])
    protocol = {
        "dataset_hash": dataset.hash,
        "split": split,
        "resize": detector.resize.describe(),
        "score_threshold": settings["detector"].get("score_threshold"),
        "max_dets": settings["detector"].get("max_detections", 100),
        "precision": run["precision"],
        "device": run["device"],
        "batch": batch_size,
        "recipe": settings["recipe"],
        "images_seen": settings["recipe"]["images_seen"],
        "seed": settings["seed"],
    }
    before = read_or_empty(path / "metrics.json")
    if not again and before.get("fingerprint") == protocol:
        return before
    with stage(path, "evaluate"):
        truth = dataset.coco()
        coco.self_check(truth, backend=backend)
        results = predict_dataset(
            detector,
            with_proposals(dataset, detector.proposer),
            resize=detector.resize,
            batch_size=batch_size,
            device=run["device"],
            precision=run["precision"],
            channels_last=run["channels_last"],
        )
        found = coco.evaluate(truth, results, backend=backend, max_dets=protocol["max_dets"])
        found["intervals"] = bootstrap.interval(
            truth, results, n=resamples, progress=sys.stderr.isatty() and alone()
        )
        found["interval_method"] = bootstrap.METHOD.format(n=resamples)
        found |= {"split": split, "score_threshold": protocol["score_threshold"]}
        found["fingerprint"] = protocol
        about = {
            "name": dataset.name,
            "split": split,
            "hash": dataset.hash,
            "root": str(dataset.root.resolve()),
            "classes": dataset.classes,
            "category_ids": dataset.category_ids,
        }
        write_json(path / "predictions.json", results, indent=None)
        write_json(path / "dataset.json", about | truth, indent=None)
        write_json(path / "metrics.json", found)
    return found
