"""speed.json: the measurements of a detector and the protocol behind them.

Times are in milliseconds. `samples` holds every timed pass in order; those of two detectors from
one call are paired by index; `against` compares them with the reference's. Intervals are explained
in summary.py; null with a single round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import psutil
import torch

from detzoo.data.jpeg import decoder
from detzoo.engine.folding import inspect_folding
from detzoo.engine.precision import Mode, describe_detector
from detzoo.imagefile import ImageFile
from detzoo.speed.caveats import warnings_about
from detzoo.speed.machine import cpu_model, driver, gpu_model, versions
from detzoo.speed.phases import Sample
from detzoo.speed.stages import Pipeline
from detzoo.speed.summary import latency, ratio


class Phases(NamedTuple):
    """The results of each phase of a timing, by detector, and two of the machine."""

    warmups: dict[str, dict[str, Any]]
    samples: dict[str, list[Sample]]
    throughputs: dict[str, dict[str, Any]]
    energies: dict[str, dict[str, Any] | None]
    other_load: float
    clocks: dict[str, Any]
    inner: dict[str, dict[str, Any]]
    costs: dict[str, dict[str, Any]]


def make_records(
    pipelines: Mapping[str, Pipeline],
    modes: Mapping[str, Mode],
    encoded: Sequence[ImageFile],
    shapes: Mapping[str, Sequence[tuple[int, int]]],
    found: Phases,
    reference: str,
    seconds: float,
    seed: int,
    fixed: bool,
) -> dict[str, dict[str, Any]]:
    """The content of every detector's speed.json. fixed: whether each had one input shape."""
    digests = (hashlib.sha256(file.source).digest() for file in encoded)
    digest = hashlib.sha256(b"".join(digests)).hexdigest()
    device = next(iter(pipelines.values())).device
    gpu = gpu_model(device)
    machine = {
        "threads": torch.get_num_threads(),
        "cpu": cpu_model(),
        "gpu": gpu,
        "driver": driver() if gpu else None,
        "decoder": decoder(),
        "batch": 1,
    }
    session = {
        "seconds": seconds,
        "other_load": found.other_load,
        "processors": psutil.cpu_count() or 1,
        "clocks": found.clocks,
        "cudnn_benchmark": fixed and device.type == "cuda",
        "versions": versions(),
    }
    results = {}
    for name, pipeline in pipelines.items():
        mode, samples = modes[name], found.samples[name]
        protocol = {"images_hash": digest, "device": str(device), **asdict(mode), **machine}
        detector = pipeline.detector
        folding = inspect_folding(detector)
        result = {
            "n": len(samples),
            "images": len(encoded),
            **protocol,
            "rounds": 1 + samples[-1].round,
            **latency(samples, seed),
            "against": {"reference": reference} | ratio(samples, found.samples[reference], seed),
            "inner": found.inner.get(name),
            "throughput": found.throughputs[name],
            "energy": found.energies[name],
            **found.costs[name],
            "proposer": detector.proposer.describe() if detector.proposer else None,
            "folding": folding.describe(),
            "shapes": len(set(shapes[name])),
            "warmup": found.warmups[name],
            **session,
            "fingerprint": protocol | describe_detector(detector, pipeline.resize, device, mode),
        }
        left = [folding.warning] if folding.warning else []
        results[name] = result | {"warnings": [*warnings_about(result), *left]}
    return results
