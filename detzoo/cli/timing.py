"""The stage that several runs go through together: timing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import detzoo
from detzoo.cli.runs import in_one_line, read_or_empty, runtime, source
from detzoo.config import load_yaml
from detzoo.detector import Detector
from detzoo.engine.status import stage
from detzoo.files import write_json
from detzoo.speed.clock import TimingError, measure


def time_runs(
    paths: Sequence[Path], *, again: bool = True, split: str = "test", **options: Any
) -> dict[Path, str]:
    """Time runs against one another and write their speed.json; gives path -> error of failures.

    Runs that differ in device, precision or test images are timed apart, each group with the whole
    budget. again=False leaves groups alone that were timed together since they were trained.
    """
    other = {key: options.pop(key, None) for key in ("device", "precision", "threads")}
    groups: dict[str, list[Path]] = {}
    failed: dict[Path, str] = {}
    for path in paths:
        try:
            settings = load_yaml(path / "config.yaml")
            run = runtime(settings["runtime"] | {k: v for k, v in other.items() if v is not None})
            used = [run[key] for key in ("device", "precision", "channels_last", "threads")]
            key = json.dumps([*used, source(settings).read(split).hash])
        except Exception as error:
            failed[path] = in_one_line(error)
        else:
            groups.setdefault(key, []).append(path)
    for key, members in groups.items():
        if again or not _timed_together(members):
            device, precision, channels_last, threads, _ = json.loads(key)
            torch.set_num_threads(threads)
            protocol = {"device": device, "precision": precision, "channels_last": channels_last}
            failed |= _time_group(members, split, **protocol, **options)
    return failed


def _time_group(paths: list[Path], split: str, **options: Any) -> dict[Path, str]:
    """Time runs that share everything but the detector; one that fails is left out, and told of."""
    failed: dict[Path, str] = {}
    models: dict[str, Detector] = {}
    called = {path.name: path for path in paths}
    if len(called) < len(paths):
        called = {str(path): path for path in paths}
    for name, path in called.items():
        try:
            with stage(path, "speed"):
                models[name] = detzoo.load(path)
        except Exception as error:
            failed[path] = in_one_line(error)
    session = uuid.uuid4().hex
    while models:
        dataset = source(load_yaml(called[next(iter(models))] / "config.yaml")).read(split)
        try:
            results = measure(models, [sample.path for sample in dataset.samples], **options)
        except Exception as error:
            # One that fails goes, the others are timed again; what concerns all ends the timing.
            for name in [error.name] if isinstance(error, TimingError) else list(models):
                with suppress(Exception), stage(called[name], "speed"):
                    raise
                failed[called[name]] = in_one_line(error)
                del models[name]
            continue
        for name, result in results.items():
            with stage(called[name], "speed"):
                write_json(called[name] / "speed.json", result | {"session": session})
        break
    return failed


def _timed_together(paths: Sequence[Path]) -> bool:
    """Whether one session timed exactly these, and none was trained since."""
    found = [read_or_empty(path / "speed.json") for path in paths]
    sessions = {speed.get("session") for speed in found}
    return (
        len(sessions) == 1
        and None not in sessions
        and all(
            (path / "speed.json").stat().st_mtime >= (path / "checkpoint.pt").stat().st_mtime
            for path in paths
        )
    )
