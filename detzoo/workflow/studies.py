"""The studies of detzoo speed: a timing, a file in every run directory, a table."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from detzoo.engine.precision import PRECISIONS, Mode, choose_channels_last, choose_precision
from detzoo.files import read_json, write_json
from detzoo.report.analysis import studies as tables
from detzoo.run_config import SCORED
from detzoo.speed.clock import measure
from detzoo.workflow.provenance import provenance
from detzoo.workflow.settings import decoding_of, one_line, read_moved, runtime_of_run, source
from detzoo.workflow.stages import score
from detzoo.workflow.timing import RUNTIME, UNTRAINED, detector_of

STUDIES = tables.STUDIES


def write_study(study: str, paths: Sequence[Path]) -> str:
    """Write study_NAME.json into every run from its speed.json; returns the table of all runs."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        file = path / f"study_{study}.json"
        if study != "precision":
            speed = read_json(path / "speed.json")
            made = (
                tables.time_by_content(speed) if study == "content" else tables.time_by_batch(speed)
            )
            keys = ("fingerprint", "session", "warnings")
            write_json(file, made | {key: speed[key] for key in keys})
        found[path.name] = read_json(file)
    return tables.format_text(study, found)


def doubling(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`."""
    return [2**power for power in range(most.bit_length())]


def precision(
    paths: Sequence[Path],
    wanted: Sequence[str] | None,
    *,
    compile: bool = False,
    evaluate: Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    reference: str | None = None,
    split: str = "test",
    data_root: str | None = None,
    **options: Any,
) -> dict[Path, str]:
    """Time each run by itself, all precisions interleaved; returns path -> error of failures.

    Each precision is a separate object, timed and then scored unchanged: study_precision.json. The
    run's speed.json and metrics.json are not touched. The first precision is the reference; a model
    without trained weights has no AP. wanted: None for all that the device supports.
    """
    if reference is not None:
        raise ValueError("study=precision has its reference: the first of precisions=[...]")
    other = {key: options.pop(key, None) for key in RUNTIME}
    other.pop("precision")
    failed: dict[Path, str] = {}
    for path in paths:
        try:
            settings = read_moved(path, SCORED, data_root)
            run = runtime_of_run(settings, other)
            layout = "auto" if other["channels_last"] is None else other["channels_last"]
            modes = {
                name: Mode(name, choose_channels_last(run["device"], layout), compile)
                for name in _possible(run["device"], wanted)
            }
            dataset = source(settings).read(split)
            models = {name: detector_of(path, size) for name in modes}
            images = [sample.image for sample in dataset.samples]
            torch.set_num_threads(run["threads"])
            with decoding_of(run):
                found = measure(models, images, device=run["device"], mode=modes, **options)
            for name, result in found.items():
                result["fingerprint"] |= provenance(settings, dataset)
                result["accuracy"] = None
                if settings.get("weights") != UNTRAINED:
                    most = result["fingerprint"]["max_dets"]
                    how = {"max_dets": most, **(evaluate or {})}
                    how.pop("images", None)  # a study keeps no photographs
                    _, _, result["accuracy"] = score(
                        models[name], dataset, run["device"], modes[name], **how
                    )
            made = tables.time_by_precision(found) | {"session": uuid.uuid4().hex}
            write_json(path / "study_precision.json", made)
        except Exception as error:
            failed[path] = one_line(error)
    return failed


def _possible(device: str, wanted: Sequence[str] | None) -> list[str]:
    """The precisions to compare. Raises ValueError for one that the device does not compute in."""
    if wanted is not None:
        return [choose_precision(device, name) for name in wanted]
    possible = []
    for name in PRECISIONS:
        with suppress(ValueError):
            possible.append(choose_precision(device, name))
    return possible
