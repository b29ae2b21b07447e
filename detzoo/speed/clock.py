"""Time detectors side by side: the protocol behind every millisecond in a table.

From encoded bytes in memory to boxes in original pixels on the CPU, on real images. For a detector
that needs proposals they are computed within every pass: they are a part of its cost.

1. Warm-up, per detector and input shape, until the medians are stable; bounded, and the record
   says whether they were.
2. Rounds: all detectors, in random order, over the same few images, one image at a time. Whatever
   the machine does during a round, it does to all of them.
3. A sweep over batch sizes, for the throughput; a separate measurement, not 1 / latency.
4. On a GPU with an energy counter, the energy per image at the best batch.
5. The parts of the network's time, and cost: multiply-adds, parameters, peak memory.

Nothing is clipped and no timed pass is left out. One timing at a time runs on a machine (lock.py).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from detzoo.data.image import load_image
from detzoo.data.resize import Resize
from detzoo.detector import Detector
from detzoo.engine.precision import Mode, prepare
from detzoo.imagefile import ImageFile
from detzoo.speed import cost
from detzoo.speed.gpu import ENERGY_SECONDS, Card, Clocks, energy
from detzoo.speed.inner import event_of, has_parts, inner_stages
from detzoo.speed.lock import timing_lock
from detzoo.speed.machine import Bystanders
from detzoo.speed.phases import Show, run_rounds, sweep, warm_up
from detzoo.speed.record import Phases, make_records
from detzoo.speed.stages import Clock, Pipeline, TimingError, spaced, synchronizer

__all__ = ["TimingError", "measure", "spaced"]

IMAGES_PER_ROUND = 8
LEAST_ROUNDS = 5  # rounds are made smaller for slow detectors, so that this many fit
WARM_UP_SHARE, SWEEP_SHARE = 0.2, 0.2  # of the time budget; the rounds get the rest
INNER_PASSES = 10
COST_PASSES = cost.ALIKE + 2  # what counting multiply-adds and memory takes at the end, about


@dataclass(frozen=True)
class Budget:
    """How much is measured: `measure`'s arguments of these names."""

    seconds: float
    rounds: int | None
    max_images: int
    max_batch: int
    batches: Sequence[int] | None
    seed: int

    def check(self) -> None:
        """Raise ValueError for what measures nothing."""
        least = min(self.batches, default=0) if self.batches is not None else 1
        for name in ("seconds", "max_images", "max_batch", "batches"):
            value = least if name == "batches" else getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 1, or None")


def measure(
    models: Mapping[str, Detector],
    paths: Sequence[str | Path | ImageFile],
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
    """Time all `models` on the same images; returns for each the content of its speed.json.

    paths: image files of the test split, an ImageFile if its data set defines the orientation of
    its boxes; of more than `max_images` an even selection is taken. resizes: per model, its own
    `.resize` by default. mode: how they are computed, one for all or one each. reference: the model
    that all are compared with, the first by default. seconds: for all models together, without the
    wait for the lock; warm-up and rounds make at least one pass, however slow. rounds: exactly this
    number, instead of as many as fit. max_batch: of the doubling sweep, 1 for none; batches: these
    sizes instead. The models are left on the device, in their mode and in eval mode, so that the
    next scoring is of what was timed. clock, synchronize: for tests.

    Times in the result are in milliseconds (see record.py). Raises ValueError without models or
    images, or for one that cannot be decoded; TimingError when a detector fails.
    """
    budget = Budget(seconds, rounds, max_images, max_batch, batches, seed)
    reference = _check(models, paths, reference, budget)
    device = torch.device(device)
    chosen = spaced(paths, max_images)
    files = [path if isinstance(path, ImageFile) else ImageFile(path) for path in chosen]
    encoded = [file._replace(source=Path(file.source).read_bytes()) for file in files]
    sizes = [_decoded_size(*pair) for pair in zip(encoded, files, strict=True)]
    modes = {name: mode if isinstance(mode, Mode) else mode[name] for name in models}
    wait = synchronize or synchronizer(device)
    pipelines = {
        name: _pipeline(name, detector, (resizes or {}).get(name), device, modes[name], clock, wait)
        for name, detector in models.items()
    }
    shapes = {name: _shapes(pipeline, sizes) for name, pipeline in pipelines.items()}
    # cuDNN tries out its algorithms at every new shape: a gain only where shapes do not vary.
    fixed = all(len(set(of_images)) == 1 for of_images in shapes.values())
    locked = timing_lock() if lock else nullcontext()
    with locked, _steady_conditions(fixed), _bar(seconds, progress) as show:
        found = _run_phases(pipelines, encoded, shapes, budget, show)
    return make_records(pipelines, modes, encoded, shapes, found, reference, seconds, seed, fixed)


def _check(
    models: Mapping[str, Detector],
    paths: Sequence[Any],
    reference: str | None,
    budget: Budget,
) -> str:
    """The name of the reference. Raises ValueError for arguments that cannot be."""
    if not models:
        raise ValueError("measure got no models to time")
    if not paths:
        raise ValueError("measure got no images; give the image files of a test split")
    budget.check()
    reference = next(iter(models)) if reference is None else reference
    if reference not in models:
        raise ValueError(f"reference is {reference!r}; it must be one of {', '.join(models)}")
    return reference


def _pipeline(
    name: str,
    detector: Detector,
    resize: Resize | None,
    device: torch.device,
    mode: Mode,
    clock: Clock,
    synchronize: Callable[[], None],
) -> Pipeline:
    """The detector on the device, in its mode, with all steps before and after it."""
    prepare(detector.eval(), device, mode.channels_last, mode.compile, inference=True)
    return Pipeline(
        name,
        detector,
        resize or detector.resize,
        device,
        mode.precision,
        mode.channels_last,
        clock,
        synchronize,
    )


def _run_phases(
    pipelines: Mapping[str, Pipeline],
    encoded: Sequence[ImageFile],
    shapes: Mapping[str, Sequence[tuple[int, int]]],
    budget: Budget,
    show: Show,
) -> Phases:
    """Everything that is measured, phase by phase (see the module's text)."""
    first = next(iter(pipelines.values()))
    clock, device, seconds = first.clock, first.device, budget.seconds
    bystanders, card = Bystanders(), Card.find(device)
    clocks = Clocks(card)
    start = clock()
    warmups = {}
    for done, (name, pipeline) in enumerate(pipelines.items()):
        show(f"warm-up, {name}")
        left = start + WARM_UP_SHARE * seconds - clock()
        warmups[name] = warm_up(pipeline, encoded, shapes[name], left / (len(pipelines) - done))
    doubles = budget.max_batch > 1 and budget.batches is None
    sweep_seconds = SWEEP_SHARE * seconds if doubles else 0.0
    pass_seconds = sum(w["last_median_ms"] for w in warmups.values()) / 1e3
    hooked = [name for name, pipeline in pipelines.items() if has_parts(pipeline)]
    after = COST_PASSES * pass_seconds
    after += INNER_PASSES * sum(warmups[name]["last_median_ms"] for name in hooked) / 1e3
    after += ENERGY_SECONDS * len(pipelines) if card is not None else 0.0
    round_seconds = start + seconds - clock() - sweep_seconds - after

    def show_and_look(what: str, left: float | None = None) -> None:
        clocks.look()
        show(what, left)

    per_round = _images_per_round(len(encoded), budget.rounds, round_seconds, pass_seconds)
    shared = {"seed": budget.seed, "show": show_and_look}
    samples = run_rounds(
        pipelines,
        encoded,
        images_per_round=per_round,
        seconds=round_seconds,
        rounds=budget.rounds,
        **shared,
    )
    sizes = {"max_batch": budget.max_batch, "batches": budget.batches}
    throughputs = sweep(
        pipelines, encoded, **sizes, seconds=sweep_seconds, samples=samples, **shared
    )
    energies = {
        name: energy(pipeline, encoded, throughputs[name]["batch"], card)
        for name, pipeline in pipelines.items()
    }
    other_load, clocked = bystanders.load(), clocks.summary()
    show("the network's parts")
    events = event_of(device, clock)
    inner = {name: inner_stages(pipelines[name], encoded[:INNER_PASSES], events) for name in hooked}
    show("multiply-adds and memory")
    costs = {
        name: cost.measure_cost(pipeline, encoded, shapes[name])
        for name, pipeline in pipelines.items()
    }
    return Phases(warmups, samples, throughputs, energies, other_load, clocked, inner, costs)


def _decoded_size(data: ImageFile, file: ImageFile) -> tuple[int, int]:
    """(height, width), by decoding in full: a broken image is an error before the timing."""
    try:
        height, width, _ = load_image(data).shape
    except ValueError as error:
        raise ValueError(f"{file.source}: {error}") from error
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


@contextmanager
def _steady_conditions(fixed_shapes: bool) -> Iterator[None]:
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
def _bar(seconds: float, progress: bool) -> Iterator[Show]:
    """A bar over the time that is left, one line in a log file; `show` is called between passes."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    visible = progress and sys.stderr.isatty()
    if progress and not visible:
        print(f"timing: about {seconds:.0f} s", file=sys.stderr, flush=True)
    with tqdm(total=seconds, disable=not visible, bar_format=layout, leave=False) as bar:
        start = time.monotonic()

        def show(what: str, left: float | None = None) -> None:
            bar.n = time.monotonic() - start
            if left is not None:
                bar.total = bar.n + left
            bar.n = min(bar.n, bar.total)
            bar.set_description_str(f"timing: {what:<32.32}", refresh=False)
            bar.update(0)

        yield show
