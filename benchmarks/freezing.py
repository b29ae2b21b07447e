"""What frozen stages save: whole training steps a second, against nothing frozen.

A frozen stage is computed forward and not backward, and its weights have no optimiser. Faster
R-CNN as `detzoo train detector=faster_rcnn` has it (the narrow neck and head), on MobileNetV2 and
on ResNet-18, with nothing frozen (the peer, 1.00x) and with each of a few last frozen stages, in
turns within one run; `backbone` are the same networks alone, whose output's mean is the loss.

    python benchmarks/freezing.py --size 320 --seconds 120
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from lib import Training, arguments, begin, interleaved, ratio, timing_lock

from detzoo.api import create_detector
from detzoo.engine.precision import prepare
from detzoo.nn import Backbone

NETWORKS = {"mobilenetv2_100": (1, 2, 3), "resnet18": (0, 1, 2)}  # and the last frozen stages
NARROW = {"channels": 64, "head_width": 256, "smallest_anchor": 16, "roi_batch": 64}
NARROW |= {"pre_nms": (500, 500), "post_nms": (300, 300)}  # conf/detector/faster_rcnn.yaml


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=90, batch=4, size=320)
    parser.add_argument("--detector", default="faster_rcnn")
    options = parser.parse_args()
    device = begin(options)
    print("Images per second (median of rounds), and against nothing frozen:")
    with timing_lock():
        for name, stages in NETWORKS.items():
            choices = {"nothing frozen": None, **{f"stages 0 to {n}": n for n in stages}}
            whole = {text: step(options, name, last, device) for text, last in choices.items()}
            alone = {text: backbone(options, name, last, device) for text, last in choices.items()}
            for what, work, share in ((options.detector, whole, 0.7), ("backbone", alone, 0.3)):
                seconds = share * options.seconds / len(NETWORKS)
                rates = interleaved(work, seconds, device)
                peer = rates["nothing frozen"]
                print(f"{what}, {name}, rounds: {len(peer)}")
                for text, found in rates.items():
                    print(f"  {text:<16}{statistics.median(found):8.2f} /s  {ratio(found, peer)}")


def made(name: str, last: int | None) -> Backbone:
    """The same random weights whatever is frozen; what they are is no matter for the time."""
    torch.manual_seed(0)
    return Backbone(name, frozen_stages=last)


def step(options, name: str, last: int | None, device: torch.device) -> Training:
    torch.manual_seed(0)
    own = NARROW if options.detector == "faster_rcnn" else {}
    detector = create_detector(options.detector, num_classes=6, backbone=made(name, last), **own)
    return Training(detector, options, device, channels_last=True)


def backbone(options, name: str, last: int | None, device: torch.device) -> Callable[[], int]:
    """Forward and backward of the backbone alone."""
    network = prepare(made(name, last), device, channels_last=True).train()
    size = (options.batch, 3, options.size, options.size)
    pixels = torch.rand(size, device=device).contiguous(memory_format=torch.channels_last)

    def run() -> int:
        sum(x.mean() for x in network(pixels)).backward()
        network.zero_grad()
        return options.batch

    return run


if __name__ == "__main__":
    main()
