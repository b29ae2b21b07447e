"""Time detectors side by side: the protocol behind every millisecond in a table.

From encoded bytes in memory to boxes in original pixels on the CPU, on real images. A detector that
is given its regions has them proposed within every pass: they are its cost too.

1. Warm-up, per detector and input shape, until the medians stand still; bounded, and says if not.
2. Rounds: all detectors, in random order, over the same few images, one image at a time. Whatever
   the machine does during a round, it does to all of them.
3. A sweep over batch sizes, for the throughput; that is its own measurement and not 1 / latency.
4. Cost: multiply-adds, parameters, peak memory.

Nothing is clipped and no timed pass is left out. One timing at a time runs on a machine (lock.py).
"""

from __future__ import annotations

import gc
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from detzoo.data.image import Resize, load_image
from detzoo.detector import Detector
from detzoo.engine.precision import autocast, prepare, transfer
from detzoo.speed import cost
from detzoo.speed.lock import timing_lock
from detzoo.speed.machine import Bystanders, cpu_model, gpu_model, versions
from detzoo.speed.phases import Sample, Tell, run_rounds, sweep, warm_up
from detzoo.speed.stages import STAGES, Clock, Pipeline, TimingError, synchronizer

__all__ = ["TimingError", "latency", "measure", "thinned", "warnings_about"]

IMAGES_PER_ROUND = 8
LEAST_ROUNDS = 5  # rounds are made smaller for slow detectors, so that this many fit
WARM_UP_SHARE, SWEEP_SHARE = 0.2, 0.2  # of the time budget; the rounds get the rest
COST_PASSES = 3  # what counting multiply-adds and memory takes at the end
BUSY = 0.1  # a warning when others used more than this share of all processors


def measure(
    models: Mapping[str, Detector],
    paths: Sequence[str | Path],
    *,
    resizes: Mapping[str, Resize] | None = None,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    channels_last: bool = False,
    seconds: float = 30.0,
    rounds: int | None = None,
    max_images: int = 100,
    max_batch: int = 64,
    seed: int = 0,
    lock: bool = True,
    progress: bool = True,
    clock: Clock = time.perf_counter,
    synchronize: Callable[[], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Time all `models` on the same images; gives for each the content of its speed.json.

    paths: image files of the test split; more than `max_images` are thinned out evenly. resizes:
    per model, its own `.resize` by default. seconds: for all models together, not counting the wait
    for the lock; warm-up and rounds make at least one pass, however slow. rounds: exactly so many,
    instead of as many as fit. max_batch: 1 for no sweep. The models are left on the device and in
    eval mode. clock, synchronize: for tests.

    Times in the result are in milliseconds. `samples` holds every timed pass in order; those of two
    models from one call are pairs, index by index. `interval` is of the median, 95%, by bootstrap
    over rounds (passes of one round share the machine's mood); null when there was one round only.

    Raises ValueError when there are no models, no images, or one that cannot be decoded;
    TimingError when a detector fails.
    """
    if not models:
        raise ValueError("measure got no models to time")
    if not paths:
        raise ValueError("measure got no images; give the image files of a test split")
    for name, value in {
        "seconds": seconds,
        "max_images": max_images,
        "max_batch": max_batch,
    }.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    if rounds is not None and rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1, or None")
    device = torch.device(device)
    chosen = thinned(paths, max_images)
    encoded = [Path(path).read_bytes() for path in chosen]
    sizes = [_decoded_size(data, path) for data, path in zip(encoded, chosen, strict=True)]
    pipelines = {
        name: Pipeline(
            name,
            prepare(detector.eval(), device, channels_last),
            detector.resize if resizes is None else resizes[name],
            device,
            precision,
            channels_last,
            clock,
            synchronize or synchronizer(device),
        )
        for name, detector in models.items()
    }
    shapes = {name: _shapes(pipeline, sizes) for name, pipeline in pipelines.items()}
    # cuDNN tries out its algorithms at every new shape: a gain only where shapes do not vary.
    fixed = all(len(set(of_images)) == 1 for of_images in shapes.values())

    with (
        timing_lock() if lock else nullcontext(),
        _undisturbed(fixed),
        _bar(seconds, progress) as tell,
    ):
        bystanders = Bystanders()
        start = clock()
        warmups = {}
        for done, (name, pipeline) in enumerate(pipelines.items()):
            tell(f"warm-up, {name}")
            left = start + WARM_UP_SHARE * seconds - clock()
            warmups[name] = warm_up(pipeline, encoded, shapes[name], left / (len(models) - done))
        sweep_seconds = SWEEP_SHARE * seconds if max_batch > 1 else 0.0
        pass_seconds = sum(w["last_median_ms"] for w in warmups.values()) / 1e3
        left = start + seconds - clock()
        round_seconds = left - sweep_seconds - COST_PASSES * pass_seconds
        samples = run_rounds(
            pipelines,
            encoded,
            images_per_round=_images_per_round(len(encoded), rounds, round_seconds, pass_seconds),
            seconds=round_seconds,
            rounds=rounds,
            seed=seed,
            tell=tell,
        )
        throughputs = sweep(
            pipelines,
            encoded,
            max_batch=max_batch,
            seconds=sweep_seconds,
            samples=samples,
            seed=seed,
            tell=tell,
        )
        other_load = bystanders.load()
        tell("multiply-adds and memory")
        costs = {name: _cost(p, encoded, shapes[name]) for name, p in pipelines.items()}

    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in encoded)).hexdigest()
    libraries = versions()
    results = {}
    for name, pipeline in pipelines.items():
        protocol = {
            "images_hash": digest,
            "device": str(device),
            "precision": precision,
            "channels_last": channels_last,
            "threads": torch.get_num_threads(),
            "cpu": cpu_model(),
            "gpu": gpu_model(device),
            "batch": 1,
        }
        result = {
            "n": len(samples[name]),
            "images": len(encoded),
            **protocol,
            "rounds": 1 + samples[name][-1].round,
            **latency(samples[name], seed),
            "throughput": throughputs[name],
            **costs[name],
            "proposer": proposer.describe() if (proposer := pipeline.detector.proposer) else None,
            "shapes": len(set(shapes[name])),
            "warmup": warmups[name],
            "other_load": other_load,
            "cudnn_benchmark": fixed and device.type == "cuda",
            "versions": libraries,
            "fingerprint": {
                **protocol,
                "resize": pipeline.resize.describe(),
                "score_threshold": getattr(pipeline.detector, "score_threshold", None),
                "max_detections": getattr(pipeline.detector, "max_detections", None),
            },
        }
        result["warnings"] = warnings_about(result)
        results[name] = result
    return results


def thinned(paths: Sequence[str | Path], most: int) -> list[str | Path]:
    """`paths`, or `most` of them at even distances: the same ones at every call."""
    if len(paths) <= most:
        return list(paths)
    return [paths[i * len(paths) // most] for i in range(most)]


def _decoded_size(data: bytes, path: str | Path) -> tuple[int, int]:
    """(height, width), by decoding in full, so that a broken image is told of before the timing."""
    try:
        height, width, _ = load_image(data).shape
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return height, width


def _shapes(pipeline: Pipeline, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(H, W) of the network's input, for single images of these (height, width)."""
    blanks = {size: pipeline.collate([np.zeros((*size, 3), np.uint8)]) for size in set(sizes)}
    return [tuple(blanks[size].pixels.shape[-2:]) for size in sizes]


def _images_per_round(images: int, rounds: int | None, seconds: float, pass_seconds: float) -> int:
    """pass_seconds: what one image takes all detectors together."""
    most = min(IMAGES_PER_ROUND, images)
    if rounds is not None:
        return most
    fitting = int(seconds / LEAST_ROUNDS / pass_seconds) - 1  # one pass in each is not timed
    return max(1, min(most, fitting))


def latency(samples: Sequence[Sample], seed: int = 0) -> dict[str, Any]:
    """Milliseconds per stage and end to end: percentiles, the mean, the median's interval."""
    times = 1e3 * np.array([sample.seconds for sample in samples])  # (n, stages)
    whole = times.sum(1)
    of_round = np.array([sample.round for sample in samples])
    return {
        "stages": {stage: _spread(times[:, i]) for i, stage in enumerate(STAGES)},
        "end_to_end": {**_spread(whole), "interval": _interval(whole, of_round, seed)},
        "interval_method": "95% of the median, bootstrap over rounds, 1000 draws",
        "samples": {
            "round": of_round.tolist(),
            "image": [sample.image for sample in samples],
            "network": times[:, STAGES.index("network")].round(4).tolist(),
            "end_to_end": whole.round(4).tolist(),
        },
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(values.mean())}


def _interval(values: np.ndarray, of_round: np.ndarray, seed: int) -> list[float] | None:
    """All rounds have as many passes, so `values` is a table of rounds."""
    rounds = len(np.unique(of_round))
    if rounds < 2:
        return None
    table = values.reshape(rounds, -1)
    draws = np.random.default_rng(seed).integers(rounds, size=(1000, rounds))
    medians = np.median(table[draws].reshape(1000, -1), axis=1)
    return np.percentile(medians, (2.5, 97.5)).tolist()


def _cost(
    pipeline: Pipeline, encoded: Sequence[bytes], shapes: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """On the first image of the most frequent shape."""
    frequent = Counter(shapes).most_common(1)[0][0]
    image = load_image(encoded[shapes.index(frequent)])
    images = pipeline.collate([image], pipeline.detector.proposals_of([image]))
    images = transfer(images, pipeline.device, pipeline.channels_last)
    with autocast(pipeline.device, pipeline.precision):
        return {
            "gmacs": cost.gmacs(pipeline.detector, images),
            "input": list(images.pixels.shape),
            "parameters": cost.parameters(pipeline.detector),
            "peak_memory_mb": cost.peak_memory_mb(pipeline.detector, images),
            "peak_memory_measures": cost.PEAK_MEMORY_MEASURES[pipeline.device.type == "cuda"],
        }


def warnings_about(result: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know, in words."""
    found = []
    if result["other_load"] > BUSY:
        found.append(
            f"other processes used {result['other_load']:.0%} of the processors while timing ran; "
            "time again on a quiet machine"
        )
    warmup = result["warmup"]
    if not warmup["settled"]:
        found.append(
            f"warm-up did not settle in {warmup['seconds']:.1f} s and {warmup['passes']} passes "
            f"({warmup['shapes_settled']} of {warmup['shapes']} input shapes did); allow more time"
        )
    if result["n"] < 100:
        found.append(f"p99 of {result['n']} passes says little more than their maximum")
    timed = len(set(result["samples"]["image"]))
    if timed < result["images"]:
        found.append(f"{timed} of {result['images']} images were timed; allow more seconds")
    if result["shapes"] > 1:
        found.append(f"the input has {result['shapes']} shapes; the percentiles mix them")
    return found


@contextmanager
def _undisturbed(fixed_shapes: bool) -> Iterator[None]:
    """No garbage collection, and cuDNN's choice of algorithms where shapes are fixed; put back."""
    collecting = gc.isenabled()
    benchmark = torch.backends.cudnn.benchmark
    gc.collect()
    gc.disable()
    torch.backends.cudnn.benchmark = fixed_shapes
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        if collecting:
            gc.enable()


@contextmanager
def _bar(seconds: float, progress: bool) -> Iterator[Tell]:
    """A bar over the time that is left, one line in a log file; `tell` is called between passes."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    show = progress and sys.stderr.isatty()
    if progress and not show:
        print(f"timing: about {seconds:.0f} s", file=sys.stderr, flush=True)
    with tqdm(total=seconds, disable=not show, bar_format=layout, leave=False) as bar:
        start = time.monotonic()

        def tell(what: str, left: float | None = None) -> None:
            bar.n = time.monotonic() - start
            if left is not None:
                bar.total = bar.n + left
            bar.n = min(bar.n, bar.total)
            bar.set_description_str(f"timing: {what:<32.32}", refresh=False)
            bar.update(0)

        yield tell
