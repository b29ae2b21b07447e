"""Time detectors side by side: the protocol behind every millisecond in a table.

From encoded bytes in memory to boxes in original pixels on the CPU, on real images. A detector that
is given its regions has them proposed within every pass: they are its cost too.

1. Warm-up, per detector and input shape, until the medians stand still; bounded, and says if not.
2. Rounds: all detectors, in random order, over the same few images, one image at a time. Whatever
   the machine does during a round, it does to all of them.
3. A sweep over batch sizes, for the throughput; that is its own measurement and not 1 / latency.
4. On a GPU that counts it, the energy of an image at the best batch.
5. What the network's time is made of, and cost: multiply-adds, parameters, peak memory.

Nothing is clipped and no timed pass is left out. One timing at a time runs on a machine (lock.py).
"""

from __future__ import annotations

import gc
import hashlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from tqdm import tqdm

from detzoo.data.image import Resize, decoder, load_image
from detzoo.detector import Detector
from detzoo.engine.folding import inspect_folding
from detzoo.engine.precision import Mode, autocast, identity, prepare, transfer
from detzoo.speed import cost
from detzoo.speed.caveats import warnings_about
from detzoo.speed.gpu import Card, Clocks
from detzoo.speed.inner import event_of, has_parts, inner_stages
from detzoo.speed.lock import timing_lock
from detzoo.speed.machine import Bystanders, cpu_model, driver, gpu_model, versions
from detzoo.speed.phases import Tell, run_rounds, sweep, warm_up
from detzoo.speed.stages import Clock, Pipeline, TimingError, synchronizer
from detzoo.speed.summary import latency, ratio
from detzoo.types import Images

__all__ = ["TimingError", "measure", "thinned"]

IMAGES_PER_ROUND = 8
LEAST_ROUNDS = 5  # rounds are made smaller for slow detectors, so that this many fit
WARM_UP_SHARE, SWEEP_SHARE = 0.2, 0.2  # of the time budget; the rounds get the rest
COST_IMAGES = 8  # over which multiply-adds are counted where they depend on the image
ALIKE = 3  # images of equal shape and equal count, after which it is taken not to
INNER_PASSES = 10
COST_PASSES = ALIKE + 2  # what counting multiply-adds and memory takes at the end, about
ENERGY_SECONDS = 2.0  # of each detector on a GPU: its counter is read every 0.1 s or less often


def measure(
    models: Mapping[str, Detector],
    paths: Sequence[str | Path],
    *,
    resizes: Mapping[str, Resize] | None = None,
    device: torch.device | str = "cpu",
    mode: Mode | Mapping[str, Mode] = Mode(),  # noqa: B008 - frozen
    reference: str | None = None,
    seconds: float = 30.0,
    rounds: int | None = None,
    max_images: int = 100,
    max_batch: int = 64,
    batches: Sequence[int] | None = None,
    seed: int = 0,
    lock: bool = True,
    progress: bool = True,
    clock: Clock = time.perf_counter,
    synchronize: Callable[[], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Time all `models` on the same images; gives for each the content of its speed.json.

    paths: image files of the test split; more than `max_images` are thinned out evenly. resizes:
    per model, its own `.resize` by default. mode: how they are computed, all alike or each by its
    own. reference: the model that all are set against, the first by default. seconds: for all
    models together, not counting the wait for the lock; warm-up and rounds make at least one pass,
    however slow. rounds: exactly so many, instead of as many as fit. max_batch: of the sweep that
    doubles, 1 for none; batches: these sizes instead. The models are left on the device, in their
    mode and in eval mode, so that who scores them next scores what was timed. clock, synchronize:
    for tests.

    Times in the result are in milliseconds. `samples` holds every timed pass in order; those of two
    models from one call are pairs, index by index; `against` sets those of the reference against
    them. What intervals are is said in summary.py; null when there was one round only.

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
        "batches": min(batches, default=0) if batches is not None else 1,
    }.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    reference = next(iter(models)) if reference is None else reference
    if reference not in models:
        raise ValueError(f"reference is {reference!r}; it must be one of {', '.join(models)}")
    if rounds is not None and rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1, or None")
    device = torch.device(device)
    chosen = thinned(paths, max_images)
    encoded = [Path(path).read_bytes() for path in chosen]
    sizes = [_decoded_size(data, path) for data, path in zip(encoded, chosen, strict=True)]
    modes = {name: mode if isinstance(mode, Mode) else mode[name] for name in models}
    pipelines = {
        name: Pipeline(
            name,
            prepare(detector.eval(), device, how.channels_last, how.compile, inference=True),
            detector.resize if resizes is None else resizes[name],
            device,
            how.precision,
            how.channels_last,
            clock,
            synchronize or synchronizer(device),
        )
        for (name, detector), how in zip(models.items(), modes.values(), strict=True)
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
        card = Card.of(device)
        clocks = Clocks(card)
        start = clock()
        warmups = {}
        for done, (name, pipeline) in enumerate(pipelines.items()):
            tell(f"warm-up, {name}")
            left = start + WARM_UP_SHARE * seconds - clock()
            warmups[name] = warm_up(pipeline, encoded, shapes[name], left / (len(models) - done))
        sweep_seconds = SWEEP_SHARE * seconds if max_batch > 1 and batches is None else 0.0
        pass_seconds = sum(w["last_median_ms"] for w in warmups.values()) / 1e3
        left = start + seconds - clock()
        hooked = [name for name, pipeline in pipelines.items() if has_parts(pipeline)]
        after = COST_PASSES * pass_seconds
        after += INNER_PASSES * sum(warmups[name]["last_median_ms"] for name in hooked) / 1e3
        after += ENERGY_SECONDS * len(models) if card is not None else 0.0
        round_seconds = left - sweep_seconds - after

        def looking(what: str, left: float | None = None) -> None:
            clocks.look()
            tell(what, left)

        samples = run_rounds(
            pipelines,
            encoded,
            images_per_round=_images_per_round(len(encoded), rounds, round_seconds, pass_seconds),
            seconds=round_seconds,
            rounds=rounds,
            seed=seed,
            tell=looking,
        )
        throughputs = sweep(
            pipelines,
            encoded,
            max_batch=max_batch,
            batches=batches,
            seconds=sweep_seconds,
            samples=samples,
            seed=seed,
            tell=looking,
        )
        energies = {
            name: energy(pipeline, encoded, throughputs[name]["batch"], card)
            for name, pipeline in pipelines.items()
        }
        other_load, clocked = bystanders.load(), clocks.told()
        tell("the network's parts")
        events = event_of(device, clock)
        inner = {
            name: inner_stages(pipelines[name], encoded[:INNER_PASSES], events) for name in hooked
        }
        tell("multiply-adds and memory")
        costs = {name: _cost(p, encoded, shapes[name]) for name, p in pipelines.items()}

    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in encoded)).hexdigest()
    libraries = versions()
    gpu = gpu_model(device)
    results = {}
    for name, pipeline in pipelines.items():
        protocol = {
            "images_hash": digest,
            "device": str(device),
            **asdict(modes[name]),
            "threads": torch.get_num_threads(),
            "cpu": cpu_model(),
            "gpu": gpu,
            "driver": driver() if gpu else None,
            "decoder": decoder(),
            "batch": 1,
        }
        result = {
            "n": len(samples[name]),
            "images": len(encoded),
            **protocol,
            "rounds": 1 + samples[name][-1].round,
            **latency(samples[name], seed),
            "against": {
                "reference": reference,
                **ratio(samples[name], samples[reference], seed),
            },
            "inner": inner.get(name),
            "throughput": throughputs[name],
            "energy": energies[name],
            **costs[name],
            "proposer": proposer.describe() if (proposer := pipeline.detector.proposer) else None,
            "folding": inspect_folding(pipeline.detector).describe(),
            "shapes": len(set(shapes[name])),
            "warmup": warmups[name],
            "seconds": seconds,
            "other_load": other_load,
            "processors": psutil.cpu_count() or 1,
            "clocks": clocked,
            "cudnn_benchmark": fixed and device.type == "cuda",
            "versions": libraries,
            "fingerprint": {
                **protocol,
                **identity(pipeline.detector, pipeline.resize, device, modes[name]),
            },
        }
        left = inspect_folding(pipeline.detector).warning
        result["warnings"] = [*warnings_about(result), *([left] if left else [])]
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


def energy(
    pipeline: Pipeline, encoded: Sequence[bytes], batch: int, card: Card | None
) -> dict[str, Any] | None:
    """Joules an image of the whole card, its idle power too, over ENERGY_SECONDS at one batch size.

    None where the card has no counter. Decoding and resizing are in it: the card waits meanwhile.
    """
    before = None if card is None else card.joules()
    if before is None:
        return None
    start, images = pipeline.clock(), 0
    while pipeline.clock() - start < ENERGY_SECONDS:
        pipeline([encoded[(images + i) % len(encoded)] for i in range(batch)])
        images += batch
    seconds = pipeline.clock() - start
    joules = card.joules() - before
    return {"joules_per_image": joules / images, "watts": joules / seconds, "batch": batch}


def _cost(
    pipeline: Pipeline, encoded: Sequence[bytes], shapes: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Memory on the first image of the most frequent shape; multiply-adds over several.

    A second stage's depend on what the first one proposes, and all of them on the input's shape:
    so `gmacs` is the mean over COST_IMAGES images, one at a time, with its standard deviation.
    Where ALIKE images of the only shape have one count, that is every image's.
    """
    frequent = Counter(shapes).most_common(1)[0][0]

    def batch(data: bytes) -> Images:
        pictures = [pipeline.detector.picture_of(data, pipeline.resize)]
        images = pipeline.collate(pictures, pipeline.detector.proposals_of(pictures))
        return transfer(images, pipeline.device, pipeline.channels_last)

    first = batch(encoded[shapes.index(frequent)])
    counts: list[float] = []
    with autocast(pipeline.device, pipeline.precision):
        for data in thinned(encoded, COST_IMAGES):
            counts.append(cost.gmacs(pipeline.detector, batch(data)))
            if len(counts) == ALIKE and len(set(counts)) == len(set(shapes)) == 1:
                break
        return {
            "gmacs": statistics.fmean(counts),
            "gmacs_sd": statistics.stdev(counts) if len(counts) > 1 else None,
            "gmacs_images": len(counts),
            "input": list(first.pixels.shape),
            "parameters": cost.parameters(pipeline.detector),
            "peak_memory_mb": cost.peak_memory_mb(pipeline.detector, first),
            "peak_memory_measures": cost.PEAK_MEMORY_MEASURES[pipeline.device.type == "cuda"],
        }


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
