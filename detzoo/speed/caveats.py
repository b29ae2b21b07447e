"""What stands beside a timing that a reader should not take at its word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A warning when others used more than this share of all processors; or, where the network's threads
# leave none free, this much of one: all threads wait for the one that was held up. A neighbour with
# 0.19 of one slows two threads on two processors visibly; an idle machine's own upkeep is 0.01.
BUSY, HELD_UP = 0.05, 0.06


def warnings_about(result: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know, in words; `result` is one of `clock.measure`."""
    found = []
    processors = result["processors"]
    others, free = result["other_load"] * processors, processors - result["threads"]
    if others > min(BUSY * processors, max(0, free) + HELD_UP):
        found.append(
            f"other processes used {result['other_load']:.0%} of the {processors} processors while "
            "timing ran; time again on a quiet machine"
        )
    clocks = result["clocks"]
    if clocks["throttles"]:
        found.append(f"the GPU was held back while timing ran: {', '.join(clocks['throttles'])}")
    if result["gpu"] and clocks["throttles"] is None:
        found.append(
            "nobody watched the GPU's clocks and energy: NVML needs pip install 'detzoo[gpu]'"
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
