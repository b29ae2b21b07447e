"""What a training step is made of, and how it stands beside torchvision's own code.

First, of every detector, the share of a step that goes into finding out what each output should say
and into the losses: `losses` forwards, its gradient down to the outputs, and the choice of regions
in the middle of a two-stage network. Then ours beside torchvision's in the same loop: the same
backbone, images and optimiser, ours as detzoo trains by default here (bf16 and channels last where
the processor has it) and at the peer's fp32 and layout. Ratios above 1 are in our favour.

    python benchmarks/training.py --detectors ssd --pairs retinanet --seconds 60
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import chain

import torch
from lib import Training, arguments, begin, interleaved, ratio, timing_lock
from torch import Tensor, nn

from detzoo.api import create_detector, list_detectors
from detzoo.engine.precision import (
    autocast,
    choose_channels_last,
    choose_precision,
    transfer,
)

PAIRS = ["faster_rcnn", "retinanet", "ssd"]
REGIONS = {"rcnn": {"roi_batch": 8}, "fast_rcnn": {}}
STEPS = 3


def main() -> None:
    ours = [name for name in list_detectors() if not name.startswith("torchvision/")]
    parser = arguments(__doc__.splitlines()[0], seconds=150, batch=4, size=320)
    parser.add_argument("--detectors", nargs="*", default=ours, help="of the shares")
    parser.add_argument("--pairs", nargs="*", default=PAIRS, help="beside torchvision's")
    parser.add_argument("--classes", type=int, default=80)
    options = parser.parse_args()
    device = begin(options)
    precision = choose_precision(device)
    layout = choose_channels_last(device)
    with timing_lock():
        for how in (("fp32", False), (precision, layout)) if options.detectors else ():
            print(f"targets and losses in a step; {how[0]}, channels last {how[1]}")
            for name in options.detectors:
                given = REGIONS.get(name, {})
                detector = _random(name, options, **given)
                whole, part = _share(Training(detector, options, device, *how))
                print(f"  {name:<14}{1e3 * whole:9.1f} ms a step, {part / whole:6.1%}")
        for name in options.pairs:
            work = {
                "peer": Training(_random(f"torchvision/{name}", options), options, device),
                "default": Training(_random(name, options), options, device, precision, layout),
                "equal": Training(_random(name, options), options, device),
            }
            rates = interleaved(work, options.seconds / len(options.pairs), device)
            print(f"{name}, {len(rates['peer'])} rounds")
            for key, found in rates.items():
                median = statistics.median(found)
                print(f"  {key:<10}{median:8.2f} images/s   {ratio(found, rates['peer'])}")


def _random(name: str, options, **given) -> nn.Module:
    torch.manual_seed(0)
    return create_detector(name, num_classes=options.classes, backbone=options.backbone, **given)


def _share(step: Training) -> tuple[float, float]:
    """Seconds of a whole step, and of targets and losses in it; medians."""
    step()
    whole, parts = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        whole.append(time.perf_counter() - start)
        parts.append(_targets_and_losses(step))
    return statistics.median(whole), statistics.median(parts)


def _targets_and_losses(step: Training) -> float:
    images, targets = next(step.batches)
    detector, spent = step.detector, 0.0
    images = transfer(images, step.device, step.channels_last)
    assign = getattr(detector, "assign", None)
    inside = 0.0

    def timed(*arguments):
        nonlocal inside
        start = time.perf_counter()
        try:
            return assign(*arguments)
        finally:
            inside += time.perf_counter() - start

    with autocast(step.device, step.precision):
        if assign is not None:
            detector.assign = timed
        outputs = detector.network(images, targets)
        spent = inside  # the losses' own calls of `assign` are within what is timed below
        start = time.perf_counter()
        losses = detector.losses(outputs, targets)
    if assign is not None:
        del detector.assign
    wanted = [t for t in _tensors(outputs) if t.requires_grad]
    torch.autograd.grad(sum(losses.values()), wanted, allow_unused=True)
    return spent + time.perf_counter() - start


def _tensors(value) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_tensors, value))


if __name__ == "__main__":
    main()
