"""What finding the peaks costs: decode of CenterNet and CornerNet beside the network before it.

A batch of 16 of 512 x 512, so 128 x 128 cells, with 80 classes, through a ResNet-18 and each
detector's neck and head, then its decode; random weights, so as many peaks as there can be. The
share says how much decode adds to the ResNet-18 alone, forwards.

    python benchmarks/peaks.py --batch 16 --size 512
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from lib import begin, interleaved, timing_lock

from detzoo.api import create_detector
from detzoo.types import Frame, Images

CLASSES = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=512, help="side of the input in pixels")
    parser.add_argument("--backbone", default="resnet18", help="a timm name")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    device = begin(options)
    torch.manual_seed(0)
    size = (options.size, options.size)
    pixels = torch.randint(0, 256, (options.batch, 3, *size), dtype=torch.uint8)
    images = Images(pixels, [Frame(i, size, size) for i in range(options.batch)]).to(device)

    def done(call: partial) -> int:
        call()
        return options.batch

    work = {}
    with torch.no_grad():
        for name in ("centernet", "cornernet"):
            detector = create_detector(
                name,
                num_classes=CLASSES,
                backbone=options.backbone,
                head_channels=64,
                upsample="topdown",
            ).to(device)
            outputs = detector.network(images)
            torch.nn.init.normal_(outputs.heatmap)  # a random network's is nearly flat
            torch.nn.init.normal_(outputs.embedding) if name == "cornernet" else None
            work[f"{name} decode"] = partial(done, partial(detector.decode, outputs, images.sizes))
        work["backbone"] = partial(done, partial(detector.backbone, detector.normalise(images)))
        with timing_lock():
            rates = interleaved(work, options.seconds, device)
    backbone = rates.pop("backbone")
    milliseconds = 1e3 * options.batch / statistics.median(backbone)
    print(f"{options.backbone}, batch {options.batch}: {milliseconds:.0f} ms")
    for name, found in rates.items():
        shares = sorted(b / d for b, d in zip(backbone, found, strict=True))
        milliseconds = 1e3 * options.batch / statistics.median(found)
        print(f"  {name:<20}{milliseconds:8.1f} ms, {statistics.median(shares):6.1%} of it")


if __name__ == "__main__":
    main()
