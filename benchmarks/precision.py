"""What number format and memory layout do: images per second, detector by detector.

Every detector is trained, and its network run as inference has it on one image, in fp32 with
torch's default layout (the peer, 1.00x), in fp32 with channels_last and in bf16 with channels_last,
in turns within one run. Whether bf16 gains anything is the processor's affair; the first lines say
what it has. It says nothing about accuracy.

    python benchmarks/precision.py --detectors retinanet centernet --size 256 --seconds 120
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable

import torch
from lib import Training, arguments, begin, interleaved, ratio, timing_lock

from detzoo.api import create_detector
from detzoo.detector import Detector
from detzoo.engine.precision import autocast, prepare, transfer
from detzoo.types import Frame, Images

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
    print("Images per second (median of rounds), and against fp32 in torch's layout:")
    with timing_lock():
        for name in options.detectors:
            torch.manual_seed(0)
            detector = create_detector(name, num_classes=6, backbone=options.backbone)
            steps = {
                mode: Training(copy.deepcopy(detector), options, device, *how)
                for mode, how in MODES.items()
            }
            networks = {
                mode: network(copy.deepcopy(detector), options.size, device, *how)
                for mode, how in MODES.items()
            }
            for what, work, share in (("training", steps, 0.7), ("inference", networks, 0.3)):
                seconds = share * options.seconds / len(options.detectors)
                rates = interleaved(work, seconds, device)
                print(f"{name}, {what}, rounds: {len(rates['fp32'])}")
                for mode, found in rates.items():
                    median = statistics.median(found)
                    print(f"  {mode:<20}{median:8.1f} /s  {ratio(found, rates['fp32'])}")


def network(
    detector: Detector, side: int, device: torch.device, precision: str, channels_last: bool
) -> Callable[[], int]:
    """The network alone on one image of random pixels, prepared for inference."""
    detector = prepare(detector.eval(), device, channels_last, inference=True)
    side = -(-side // detector.stride) * detector.stride
    pixels = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    images = Images(pixels, [Frame(0, (side, side), (side, side))])
    images = transfer(images, device, channels_last)

    @torch.no_grad()
    def once() -> int:
        with autocast(device, precision):
            detector.network(images)
        return 1

    return once


if __name__ == "__main__":
    main()
