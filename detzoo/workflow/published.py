"""Run directories of published models that are scored without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from detzoo.config import build
from detzoo.engine import checkpoint, status
from detzoo.files import check_writable, write_json, write_text
from detzoo.speed.machine import environment
from detzoo.workflow import start_weights
from detzoo.workflow.settings import Settings, directory, settings_of, trained


def published_run(settings: Mapping[str, Any]) -> Path:
    """The run directory of a published model, written if it does not exist yet.

    settings: of `detzoo train`, with a start that brings a detector's weights. Raises ValueError
    where they bring none, do not fit, or know none of the data's classes.
    """
    check_writable(Path(settings["root"]) / settings["name"] / "run" / "config.yaml")
    run = _settings(settings)
    path = directory(run, settings["root"])
    _write(run, path)
    return path


def _settings(config: Mapping[str, Any]) -> Settings:
    """The settings of a published model: a training on no images.

    Its classes are the data's, then the source's other classes, since the softmax is over all that
    the model knows; detections of those are in no result. Raises ValueError where the start is not
    given.
    """
    settings = settings_of(config)
    if "start" not in settings:
        raise ValueError(
            "train=none scores a published model: give start=coco, start=FILE or start=RUN"
        )
    own, rest = settings["classes"], start_weights.left_over(settings)
    classes = [*own, *rest]
    detector = {**settings["detector"], "num_classes": len(classes)}
    return {
        **settings,
        "start": {**settings["start"], "own": len(own)},
        "detector": detector,
        "classes": classes,
        "recipe": {"images_seen": 0},
        "augment": {},
    }


def _write(settings: Settings, path: Path) -> None:
    """Write the run directory of a published model, unless it exists.

    settings: of `_settings`. Classes of the data that the source lacks are never found.
    """
    if trained(path):
        print(f"{path}: there already")
        return
    write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    with status.stage(path, "train"):
        run = settings["runtime"]
        write_json(
            path / "environment.json", environment(torch.device(run["device"]), run["precision"])
        )
        detector = build(settings["detector"], "detector")
        start_weights.begin(detector, settings, path, untrained=True)
        state = {"model": detector.state_dict(), "ema": None}
        checkpoint.save(path, {**state, "step": 0, "images_seen": 0, "seconds": 0.0})
