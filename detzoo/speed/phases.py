"""The phases of a timing: warm-up until stable, interleaved rounds, a sweep over batch sizes."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count, takewhile
from typing import Any, NamedTuple

from detzoo.imagefile import ImageFile
from detzoo.speed.stages import Pass, Pipeline, out_of_memory

WINDOW = 5  # passes in each of the two medians that are compared during warm-up
TOLERANCE = 0.02
COUNTED = 0.05  # the score from which a box counts, in the study of an image's content
GAIN = 1.03  # a larger batch must be this much faster than the best so far, or the sweep ends

Show = Callable[..., None]


class Sample(NamedTuple):
    """One timed pass at batch 1: in which round, over which image, the seconds of each stage.

    And that image's content: boxes of a score of COUNTED or more, regions of the second stage (None
    without one), (H, W) of the network's input.
    """

    round: int
    image: int
    seconds: tuple[float, ...]
    boxes: int = 0
    proposals: int | None = None
    shape: tuple[int, int] = (0, 0)

    @classmethod
    def from_pass(cls, round: int, image: int, taken: Pass) -> Sample:
        (found,) = taken.detections
        boxes = int((found.scores >= COUNTED).sum())
        return cls(round, image, taken.seconds, boxes, taken.proposals, taken.shape[-2:])


def warm_up(
    pipeline: Pipeline,
    encoded: Sequence[ImageFile],
    shapes: Sequence[tuple[int, int]],
    seconds: float,
) -> dict[str, Any]:
    """Run until stable, once per input shape, the most frequent one first.

    Stable: the median of the last WINDOW passes differs from that of the WINDOW before them by at
    most TOLERANCE, for the network alone and for the whole. shapes: per image, (H, W) of its
    network input. seconds: a bound, shared out over the shapes; one pass is made in any case.
    """
    start = pipeline.clock()
    passes = settled = 0
    series: list[Pass] = []
    by_frequency = Counter(shapes).most_common()
    for done, (shape, _) in enumerate(by_frequency):
        left = seconds - (pipeline.clock() - start)
        if done and left <= 0:
            break
        images = [data for data, other in zip(encoded, shapes, strict=True) if other == shape]
        series, stable = _settle(pipeline, images, left / (len(by_frequency) - done))
        passes += len(series)
        settled += stable
    return {
        "seconds": pipeline.clock() - start,
        "passes": passes,
        "settled": settled == len(by_frequency),
        "shapes": len(by_frequency),
        "shapes_settled": settled,
        "rule": f"medians of {WINDOW} passes and the {WINDOW} before differ by <= {TOLERANCE:.0%}",
        "last_median_ms": 1e3 * statistics.median(p.end_to_end for p in series[-WINDOW:]),
    }


def _settle(
    pipeline: Pipeline, images: Sequence[ImageFile], seconds: float
) -> tuple[list[Pass], bool]:
    """Passes over `images`, in turn, until both medians are stable or the time is up."""
    start = pipeline.clock()
    series: list[Pass] = []
    while True:
        series.append(pipeline([images[len(series) % len(images)]]))
        if _stable([p.network for p in series]) and _stable([p.end_to_end for p in series]):
            return series, True
        if pipeline.clock() - start >= seconds:
            return series, False


def _stable(series: Sequence[float]) -> bool:
    if len(series) < 2 * WINDOW:
        return False
    now = statistics.median(series[-WINDOW:])
    before = statistics.median(series[-2 * WINDOW : -WINDOW])
    return abs(now - before) <= TOLERANCE * before


def run_rounds(
    pipelines: Mapping[str, Pipeline],
    encoded: Sequence[ImageFile],
    *,
    images_per_round: int,
    seconds: float,
    rounds: int | None,
    seed: int,
    show: Show,
) -> dict[str, list[Sample]]:
    """Every detector, in random order, over the same few images, one at a time; again and again.

    The images are cycled in one random order. Exactly `rounds` rounds, or, when None, as many as
    fit into `seconds`; at least one, and a round is always finished. Each detector first makes one
    untimed pass, so that none pays for the caches that the previous one left.
    """
    generator = random.Random(seed)
    order = generator.sample(range(len(encoded)), len(encoded))
    names = list(pipelines)
    clock = pipelines[names[0]].clock
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    start = clock()
    done = 0
    while True:
        begin = done * images_per_round
        chosen = [order[i % len(order)] for i in range(begin, begin + images_per_round)]
        generator.shuffle(names)
        for name in names:
            show(f"round {done + 1}, {name}")
            pipelines[name]([encoded[chosen[-1]]])
            for image in chosen:
                taken = pipelines[name]([encoded[image]])
                samples[name].append(Sample.from_pass(done, image, taken))
        done += 1
        spent = clock() - start
        mean = spent / done
        if done == rounds or (rounds is None and spent + mean > seconds):
            return samples
        if rounds is not None:
            show("", left=(rounds - done) * mean)


def sweep(
    pipelines: Mapping[str, Pipeline],
    encoded: Sequence[ImageFile],
    *,
    max_batch: int,
    batches: Sequence[int] | None = None,
    seconds: float,
    samples: Mapping[str, Sequence[Sample]],
    seed: int,
    show: Show,
) -> dict[str, dict[str, Any]]:
    """Images per second, end to end, at batch 1, 2, 4, ... while it improves; detectors in turns.

    A detector stops when a doubling gains less than GAIN, or when memory runs out; all do when the
    next doubling would not fit into `seconds`. If not even batch 1 fits, the rounds' passes
    (`samples`) are used for it. Short sets of images are repeated to fill a batch. batches: exactly
    these instead, whatever their gain and duration; only lack of memory ends them.
    """
    generator = random.Random(seed)
    clock = next(iter(pipelines.values())).clock
    start = clock()
    means = {name: sum(sum(s.seconds) for s in of) / len(of) for name, of in samples.items()}
    per_image = dict(means)
    points: dict[str, list[tuple[int, float]]] = {name: [] for name in pipelines}
    last = "the largest batch allowed" if batches is None else "the last batch size given"
    stopped = dict.fromkeys(pipelines, last)
    active = list(pipelines)
    doubling = takewhile(lambda batch: batch <= max_batch, (2**power for power in count()))
    for batch in doubling if batches is None else batches:
        if not active:
            break
        repeats = max(2, 8 // batch)
        predicted = (repeats + 1) * batch * sum(per_image[name] for name in active)
        if batches is None and clock() - start + predicted > seconds:
            stopped.update(dict.fromkeys(active, "time budget"))
            break
        taken = _time_batches(pipelines, encoded, batch, repeats, active, generator, show)
        failed = [name for name in active if name not in taken]
        stopped.update(dict.fromkeys(failed, "memory"))
        active = [name for name in active if name in taken]
        for name in list(active):
            speed = repeats * batch / taken[name]
            best = max((s for _, s in points[name]), default=0.0)
            points[name].append((batch, speed))
            per_image[name] = 1 / speed
            if batches is None and speed < GAIN * best:
                active.remove(name)
                stopped[name] = "no gain"
    return {
        name: _best(found or [(1, 1 / means[name])], stopped[name])
        for name, found in points.items()
    }


def _time_batches(
    pipelines: Mapping[str, Pipeline],
    encoded: Sequence[ImageFile],
    batch: int,
    repeats: int,
    names: list[str],
    generator: random.Random,
    show: Show,
) -> dict[str, float]:
    """Seconds for `repeats` batches of each detector but those that memory does not suffice for.

    Shuffles `names` before every batch.
    """
    taken = dict.fromkeys(names, 0.0)
    for repeat in range(repeats + 1):  # the first one, of a new shape, is not timed
        begin = repeat * batch
        images = [encoded[i % len(encoded)] for i in range(begin, begin + batch)]
        generator.shuffle(names)
        for name in [name for name in names if name in taken]:
            show(f"batch {batch}, {name}")
            try:
                seconds = pipelines[name](images).end_to_end
            except Exception as error:
                if not out_of_memory(error):
                    raise
                del taken[name]
            else:
                taken[name] += seconds if repeat else 0.0
    return taken


def _best(points: Sequence[tuple[int, float]], stopped: str) -> dict[str, Any]:
    batch, speed = max(points, key=lambda point: point[1])
    return {
        "batch": batch,
        "images_per_second": speed,
        "sweep": [{"batch": b, "images_per_second": s} for b, s in points],
        "stopped": stopped,
    }
