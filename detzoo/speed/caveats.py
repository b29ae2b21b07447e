"""Warnings about timings that may mislead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# A warning when other processes used more than this share of all processors; or, if the network's
# threads leave none free, this much of one: all threads wait for the delayed one. Another process
# with 0.19 of one slows two threads on two processors visibly; an idle machine uses 0.01.
BUSY, HELD_UP = 0.05, 0.06


def more_seconds(result: Mapping[str, Any], factor: float) -> str:
    """The setting that gives a timing `factor` times what it had, as bench and speed call it."""
    seconds = 30 * math.ceil(factor * result.get("seconds", 30) / 30)
    return f"speed.seconds={seconds} gives it more (detzoo speed: seconds={seconds})"


def warnings_about(result: Mapping[str, Any]) -> list[str]:
    """Warnings for readers of the numbers; `result` is one of `clock.measure`."""
    found = []
    processors = result["processors"]
    others, free = result["other_load"] * processors, processors - result["threads"]
    if others > min(BUSY * processors, max(0, free) + HELD_UP):
        found.append(
            f"other processes used {result['other_load']:.0%} of the {processors} processors while "
            "timing ran; time again on a quiet machine: detzoo speed RUNS"
        )
    clocks = result["clocks"]
    if clocks["throttles"]:
        found.append(f"the GPU was held back while timing ran: {', '.join(clocks['throttles'])}")
    if result["gpu"] and clocks["throttles"] is None:
        found.append(
            "the GPU's clocks and energy were not recorded: NVML needs pip install 'detzoo[gpu]'"
        )
    warmup = result["warmup"]
    if not warmup["settled"]:
        found.append(
            f"warm-up did not settle in {warmup['seconds']:.1f} s and {warmup['passes']} passes "
            f"({warmup['shapes_settled']} of {warmup['shapes']} input shapes did); "
            f"{more_seconds(result, 2)}"
        )
    if result["n"] < 100:
        more = more_seconds(result, 100 / max(1, result["n"]))
        found.append(f"p99 of {result['n']} passes says little more than their maximum; {more}")
    timed = len(set(result["samples"]["image"]))
    if timed < result["images"]:
        more = more_seconds(result, result["images"] / max(1, timed))
        found.append(f"{timed} of {result['images']} images were timed; {more}")
    if result["shapes"] > 1:
        found.append(f"the input has {result['shapes']} shapes; the percentiles mix them")
    return found
