"""detzoo oracle: how good would a detector be if a part of what it predicts were true?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig

from detzoo.cli.app import app, tell
from detzoo.config import plain
from detzoo.detector import Detector
from detzoo.files import write_json
from detzoo.run_config import SCORED
from detzoo.text import escaped

if TYPE_CHECKING:
    from detzoo.engine.precision import Mode


@app("oracle", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.workflow.select import select

    wanted = plain(config)
    paths, scored, failed = select(wanted["runs"]), 0, 0
    for path in paths:
        try:
            scored += score(path, wanted)
        except Exception as error:  # one run that cannot be scored stops no other
            print(escaped(f"{path}:"), file=sys.stderr)
            tell("oracle", error)
            failed += 1
    if not scored and not failed:
        raise ValueError(f"none of {', '.join(map(str, paths))} has parts that could be replaced")
    return 1 if failed else 0


def score(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Write oracle.json of a run and print it; False where the detector has no parts to replace."""
    import detzoo
    from detzoo.engine.precision import prepare
    from detzoo.ideal import parts_of
    from detzoo.workflow.settings import read_moved, source

    settings = read_moved(path, SCORED, wanted["data"]["root"])
    given = {"device": wanted["device"]} if wanted["device"] else {}
    device, mode = computed(path, settings, given)
    detector = detzoo.load(path, device)
    if not parts_of(detector):
        print(f"{path}: a {type(detector).__name__} has no parts to replace")
        return False
    dataset = source(settings).read(wanted["split"])
    prepare(detector, device, mode.channels_last, mode.compile, inference=True)
    rows = rescored(detector, dataset, wanted["batch_size"], mode)
    found = {"split": wanted["split"], "device": device, **asdict(mode), "parts": rows}
    write_json(path / "oracle.json", found)
    print(f"{path} ({mode})")
    for row in rows:
        what = f"true {', '.join(row['true'])}" if row["true"] else "as predicted"
        print(f"  {what:<36}AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}")
    return True


def computed(path: Path, settings: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, Mode]:
    """Device and mode in which `detzoo evaluate` scored the run; as it was trained if it did not.

    given: what is to be otherwise, the device. Raises ValueError for a precision that it has not.
    """
    from detzoo.engine.precision import Mode
    from detzoo.workflow.settings import read_or_empty, runtime

    scored = read_or_empty(path / "metrics.json").get("fingerprint") or {}
    fields = ("device", "precision", "channels_last")
    before = {key: scored[key] for key in fields if key in scored}
    run = runtime({**settings["runtime"], **before, **given})
    return run["device"], Mode(run["precision"], run["channels_last"], bool(scored.get("compile")))


@torch.no_grad()
def rescored(
    detector: Detector, dataset: Any, batch_size: int = 8, mode: Mode | None = None
) -> list[dict[str, Any]]:
    """AP and AP50 with none of the detector's parts true, with the first, with the first two, ..

    mode: how the detector is prepared, by default fp32.
    """
    from detzoo.data.image import resize_boxes
    from detzoo.data.loader import evaluation_batches
    from detzoo.engine.precision import Mode, autocast, transfer
    from detzoo.engine.predict import coco_results
    from detzoo.ideal import parts_of, with_truth
    from detzoo.metrics import coco
    from detzoo.types import Target, pad_targets

    device, mode = detector.mean.device, mode or Mode()
    batches = evaluation_batches(
        dataset, batch_size=batch_size, resize=detector.resize, stride=detector.stride
    )
    samples = {sample.id: sample for sample in dataset.samples}
    parts = parts_of(detector)
    stages = [parts[:count] for count in range(len(parts) + 1)]
    results: list[list[dict[str, Any]]] = [[] for _ in stages]
    for images in batches:
        of_batch = [(samples[frame.id], frame) for frame in images.frames]
        targets = [
            Target(boxes=resize_boxes(s.boxes, frame), labels=s.labels, crowd=s.crowd)
            for s, frame in of_batch
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
