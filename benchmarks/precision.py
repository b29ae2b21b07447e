"""What number format and memory layout do to training: images per second, detector by detector.

Every detector is trained in fp32 with torch's default layout (the peer, 1.00x), in fp32 with
channels_last and in bf16 with channels_last, in turns within one run. Whether bf16 gains anything
is the processor's affair; the first lines say what it has. It says nothing about accuracy.

    python benchmarks/precision.py --detectors retinanet centernet --size 256 --seconds 120
"""

from __future__ import annotations

import copy
import statistics

import torch
from lib import Training, arguments, begin, interleaved, ratio, timing_lock

from detzoo.api import create_detector

MODES = {
    "fp32": ("fp32", False),
    "fp32 channels_last": ("fp32", True),
    "bf16 channels_last": ("bf16", True),
}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=60, batch=4)
    ours = ["faster_rcnn", "retinanet", "centernet"]
    parser.add_argument("--detectors", nargs="+", default=ours)
    options = parser.parse_args()
    device = begin(options)
    print("Training images per second (median of rounds), and against fp32 in torch's layout:")
    with timing_lock():
        for name in options.detectors:
            torch.manual_seed(0)
            detector = create_detector(name, num_classes=6, backbone=options.backbone)
            steps = {
                mode: Training(copy.deepcopy(detector), options, device, *how)
                for mode, how in MODES.items()
            }
            rates = interleaved(steps, options.seconds / len(options.detectors), device)
            rounds = len(rates["fp32"])
            print(f"{name}, {rounds} round{'s' * (rounds > 1)}")
            for mode, found in rates.items():
                median = statistics.median(found)
                print(f"  {mode:<20}{median:8.1f} /s  {ratio(found, rates['fp32'])}")


if __name__ == "__main__":
    main()
