"""The stage for several runs together: timing, and scoring the timed objects."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import detzoo
from detzoo.config import build
from detzoo.data import Dataset, Resize
from detzoo.data.jpeg import decoding
from detzoo.detector import Detector
from detzoo.engine.checkpoint import seed_everything
from detzoo.engine.precision import Mode
from detzoo.engine.status import stage
from detzoo.files import write_json
from detzoo.report.load.runs import OBJECT
from detzoo.run_config import SCORED, read_run
from detzoo.speed.clock import TimingError, measure
from detzoo.workflow.provenance import provenance
from detzoo.workflow.runtimes import attach
from detzoo.workflow.settings import (
    Settings,
    one_line,
    read_moved,
    read_or_empty,
    runtime,
    runtime_of_run,
    source,
)
from detzoo.workflow.stages import evaluate_run

RUNTIME = ("device", "precision", "channels_last", "threads")
UNTRAINED = "none"  # the `weights` of a model that is timed with its random weights
RANDOM_WEIGHTS = (
    "random weights, never trained: no AP, and postprocessing has not the boxes of a trained one"
)


def time_runs(
    paths: Sequence[Path],
    *,
    again: bool = True,
    split: str = "test",
    size: int | Sequence[int] | None = None,
    compile: bool = False,
    reference: str | None = None,
    evaluate: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    **options: Any,
) -> dict[Path, str]:
    """Time runs against one another and write their speed.json; returns path -> error of failures.

    Runs that differ in device, precision or test images are timed separately, each group with the
    whole budget. again=False skips groups that were timed together since they were trained, with
    the same options. size: other pixels than the training's. reference: a label or a directory's
    name, the row that its group is compared with; the first if it is not in the group. data_root:
    where the data set is now, if it was moved.

    AP and milliseconds of a run are of one object. When the clock stops, the run's metrics.json
    must be of the object that was timed: of these weights and thresholds, at these pixels, in this
    precision and layout, compiled or not, on this device and these images: OBJECT. Otherwise the
    timed object itself is scored, before it is released; `evaluate` are settings of `evaluate_run`
    for that. If a run is later scored or timed differently, the two disagree, and the report leaves
    the milliseconds out and says why.
    """
    other = {key: options.pop(key, None) for key in RUNTIME}
    groups: dict[str, list[Path]] = {}
    failed: dict[Path, str] = {}
    labels: list[str] = []
    known = reference is None
    for path in paths:
        try:
            settings = read_moved(path, ["recipe"], data_root)
            labels.append(settings["label"])
            known |= _is_named(reference, path, settings)
            run = runtime_of_run(settings, other)
            if other["precision"] and other["channels_last"] is None:
                run = runtime(run | {"channels_last": "auto"})
            decoder = run.get("decoder", "auto")
            images = source(settings).read(split).hash
            key = json.dumps([*(run[key] for key in RUNTIME), decoder, images])
        except Exception as error:
            failed[path] = one_line(error)
        else:
            groups.setdefault(key, []).append(path)
    if not known:
        rows = ", ".join(dict.fromkeys(labels))
        raise ValueError(f"reference is {reference!r}; it must be one of the rows: {rows}")
    for key, members in groups.items():
        device, precision, channels_last, threads, decoder, _ = json.loads(key)
        mode = Mode(precision, channels_last, compile)
        if again or not _in_one_session(members, device, mode):
            torch.set_num_threads(threads)
            how = {"device": device, "mode": mode, "size": size, "reference": reference}
            how["data_root"] = data_root
            with decoding(decoder, device):
                failed |= _time_group(members, split, evaluate or {}, **how, **options)
    return failed


def _time_group(
    paths: list[Path],
    split: str,
    evaluate: Mapping[str, Any],
    *,
    device: str,
    mode: Mode,
    size: int | Sequence[int] | None,
    reference: str | None,
    data_root: str | None,
    **options: Any,
) -> dict[Path, str]:
    """Time runs that share all but the detector; path -> error of those that fail."""
    failed: dict[Path, str] = {}
    models: dict[str, Detector] = {}
    unique = len({path.name for path in paths}) == len(paths)
    called = {path.name if unique else str(path): path for path in paths}
    settings = {name: read_moved(path, ["recipe"], data_root) for name, path in called.items()}
    evaluate = {**evaluate, "data_root": data_root}
    for name, path in called.items():
        try:
            with stage(path, "speed"):
                models[name] = detector_of(path, size)
        except Exception as error:
            failed[path] = one_line(error)
    session = uuid.uuid4().hex
    while models:
        dataset = source(settings[next(iter(models))]).read(split)
        images = [sample.image for sample in dataset.samples]
        named = [name for name in models if _is_named(reference, called[name], settings[name])]
        against = named[0] if named else None  # it may be of another group, or have failed
        try:
            results = measure(
                models, images, device=device, mode=mode, reference=against, **options
            )
        except Exception as error:
            # A failing one is removed and the others are timed again; other errors end it.
            for name in [error.name] if isinstance(error, TimingError) else list(models):
                with suppress(Exception), stage(called[name], "speed"):
                    raise
                failed[called[name]] = one_line(error)
                del models[name]
            continue
        for name, result in results.items():
            path = called[name]
            result |= {"session": session, "label": settings[name]["label"]}
            result["fingerprint"] |= provenance(settings[name], dataset)
            if "runtime" in result["fingerprint"]:
                result["peak_memory_mb"] = None  # it is not torch's, and not counted
            try:
                if settings[name].get("weights") == UNTRAINED:
                    result["warnings"].append(RANDOM_WEIGHTS)
                else:
                    _score_timed(path, models[name], result["fingerprint"], dataset, mode, evaluate)
            except Exception as error:
                failed[path] = one_line(error)
            with stage(path, "speed"):
                write_json(path / "speed.json", result)
        break
    return failed


def detector_of(path: Path, size: int | Sequence[int] | None = None) -> Detector:
    """The detector of a run directory, as trained, or randomly initialised if it was not.

    size: pixels that its resize is set to instead of the training's.
    """
    settings = read_run(path, SCORED)
    if settings.get("weights") == UNTRAINED:
        seed_everything(settings["seed"])
        detector = build(settings["detector"], "detector").eval()
    else:
        detector = attach(detzoo.load(path), path, settings)
    detector.resize = change_size(settings["resize"], size)
    return detector


def change_size(node: Mapping[str, Any], size: int | Sequence[int] | None) -> Resize:
    """The resize that `node` describes, at other pixels: the square, or the shorter side."""
    node = dict(node)
    if size is not None and "shortest" in node:
        if not isinstance(size, int):
            raise ValueError(f"size is {size}; of resize=shortest_side it is one number")
        node |= {"shortest": size, "longest": round(node["longest"] * size / node["shortest"])}
    elif size is not None:
        node["size"] = size
    return build(node, "resize")


def _score_timed(
    path: Path,
    detector: Detector,
    timed: Mapping[str, Any],
    dataset: Dataset,
    mode: Mode,
    evaluate: Mapping[str, Any],
) -> None:
    """Score the timed object, unless metrics.json is of just that one already."""
    scored = read_or_empty(path / "metrics.json").get("fingerprint")
    if isinstance(scored, dict) and all(scored.get(key) == timed.get(key) for key in OBJECT):
        return
    print(f"{path}: scoring what was timed ({mode})")
    options = {"split": dataset.split, "device": timed["device"], "precision": mode.precision}
    options |= {"channels_last": mode.channels_last, "compile": mode.compile}
    evaluate_run(path, timed=detector, again=True, **{**evaluate, **options})


def _is_named(wanted: str | None, path: Path, settings: Settings) -> bool:
    """Whether `wanted` names this run, by its directory's name or its label."""
    return wanted in (path.name, str(path), settings["label"])


def _in_one_session(paths: Sequence[Path], device: str, mode: Mode) -> bool:
    """Whether one session timed exactly these, in this way, and none was trained since."""
    found = [read_or_empty(path / "speed.json") for path in paths]
    sessions = {speed.get("session") for speed in found}
    wanted = (device, mode.precision, mode.channels_last, mode.compile)
    keys = ("device", "precision", "channels_last", "compile")
    return (
        len(sessions) == 1
        and None not in sessions
        and all(tuple(speed.get(key) for key in keys) == wanted for speed in found)
        and all(
            (path / "speed.json").stat().st_mtime >= (path / "checkpoint.pt").stat().st_mtime
            for path in paths
        )
    )
