"""The parts of the network's time: backbone, neck, rpn, head, and the rest.

By forward hooks on the children of these names, so that detectors need no code for the clock. On a
GPU the hooks put CUDA events into the stream and nothing waits between the parts; on a CPU they
take time stamps. It is measured in separate passes, so that the hooks affect no other number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch

from detzoo.imagefile import ImageFile
from detzoo.speed.stages import Clock, Pipeline

PARTS = ("backbone", "neck", "rpn", "head")


class Event(Protocol):
    """What `torch.cuda.Event(enable_timing=True)` is."""

    def record(self) -> None: ...
    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from this to `end`; both must be over."""


class Stamp:
    """The event of a device that finishes its work before it returns."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.at = clock, 0.0

    def record(self) -> None:
        self.at = self.clock()

    def elapsed_time(self, end: Stamp) -> float:
        return 1e3 * (end.at - self.at)


def event_of(device: torch.device, clock: Clock) -> Callable[[], Event]:
    """The constructor of the events of `device`."""
    if device.type == "cuda":
        return lambda: torch.cuda.Event(enable_timing=True)
    return lambda: Stamp(clock)


def has_parts(pipeline: Pipeline) -> bool:
    """Whether there is something to hook: a compiled network is one piece."""
    detector = pipeline.detector
    return "network" not in vars(detector) and any(hasattr(detector, part) for part in PARTS)


def inner_stages(
    pipeline: Pipeline, encoded: Sequence[ImageFile], event: Callable[[], Event]
) -> dict[str, Any]:
    """One pass over each image, one at a time -> part -> median milliseconds, and `rest`.

    A part that runs several times in a pass counts as the sum. `rest` is the network less its
    parts, of the same passes: anchors, RoI Align, the first stage's NMS, the launches.
    """
    detector = pipeline.detector
    parts = {part: getattr(detector, part) for part in PARTS if hasattr(detector, part)}
    table = []
    for data in encoded:
        marks: dict[str, list[Event]] = {part: [] for part in parts}
        with ExitStack() as hooks:
            for part, module in parts.items():

                def mark(*_: Any, into: list[Event] = marks[part]) -> None:
                    into.append(event())
                    into[-1].record()

                hooks.callback(module.register_forward_pre_hook(mark).remove)
                hooks.callback(module.register_forward_hook(mark).remove)
            network = 1e3 * pipeline([data]).network  # it has waited for the device
        sums = [
            sum(a.elapsed_time(b) for a, b in zip(of[::2], of[1::2], strict=True))
            for of in marks.values()
        ]
        table.append([*sums, network - sum(sums)])
    medians = np.median(table, axis=0).tolist()
    return {
        **dict(zip([*parts, "rest"], medians, strict=True)),
        "n": len(table),
        "by": "CUDA events" if pipeline.device.type == "cuda" else "the clock",
    }
