"""Packed convolution weights (detzoo.engine.packed) beside torch's own calls, network alone.

Every detector with random weights on a real image, prepared for inference in bf16, in interleaved
rounds: with weights as torch stores them, and packed once. Ratios above 1 say how many times as
long it takes with the former.

    python benchmarks/packed.py --detectors retinanet centernet --threads 1
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from unittest import mock

import torch
from lib import arguments, begin, interleaved, pipeline_of, ratio, timing_lock
from lib.networks import NINE, make_detector, one_image, torch_pass

from detzoo.engine import folded


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=120, batch=1, size=320)
    parser.add_argument("--detectors", nargs="+", default=NINE)
    options = parser.parse_args()
    options.device = "cpu"
    begin(options)
    share = options.seconds / len(options.detectors)
    with timing_lock():
        for name in options.detectors:
            compare(name, options, share)


@torch.no_grad()
def compare(name: str, options, seconds: float) -> None:
    packed = make_detector(name, options)
    pipeline_of(name, packed, torch.device("cpu"), "bf16", True)  # folds it
    plain, images = copy.deepcopy(packed), one_image(packed, options)
    work = {
        "plain": unpacked(torch_pass(plain, images, "bf16")),
        "packed": torch_pass(packed, images, "bf16"),
    }
    rates = interleaved(work, seconds, torch.device("cpu"))
    milliseconds = 1e3 / statistics.median(rates["plain"])
    gained = ratio(rates["packed"], rates["plain"])
    print(f"{name:<13}{milliseconds:9.1f} ms   {gained}")


def unpacked(run: Callable[[], int]) -> Callable[[], int]:
    def plainly() -> int:
        with mock.patch.object(folded, "packing_pays", lambda x: False):
            return run()

    return plainly


if __name__ == "__main__":
    main()
