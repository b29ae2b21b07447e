"""What our own code adds to the network: (end to end - JPEG decoding) / network alone.

Every detector on one backbone and at one size, torchvision's beside ours, all in turns over the
same photographs, at several batch sizes, in fp32 and bf16. Proposals that come from outside are a
stage apart and not in the ratio. A network of random weights finds next to nothing at a score
threshold of 0.05: so that there is something to postprocess, every detector first takes `--steps`
of training on shapes, and its threshold is set to where it finds about `--boxes` an image.

    python benchmarks/overhead.py --precisions bf16 --batches 1 8 --seconds 120
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import defaultdict

import torch
from lib import Training, arguments, begin, photographs, pipeline_of, timing_lock

from detzoo.api import create_detector, list_detectors
from detzoo.data.resize import Letterbox
from detzoo.detector import Detector
from detzoo.engine.precision import autocast, choose_channels_last, choose_precision, transfer
from detzoo.speed.machine import Bystanders
from detzoo.speed.stages import STAGES, Pipeline

REGIONS = {"rcnn": 16, "fast_rcnn": 300}  # of an image, of those who are given them
APART = ("decode", "proposals")


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=150, batch=8, size=320)
    parser.add_argument("--detectors", nargs="+", default=list_detectors())
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--contiguous", action="store_true", help="torch's own layout instead")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--steps", type=int, default=20, help="of training, before")
    parser.add_argument("--boxes", type=int, default=30, help="found in an image, about")
    parser.add_argument("--stages", action="store_true", help="milliseconds of every stage")
    options = parser.parse_args()
    device = begin(options)
    encoded = [path.read_bytes() for path in photographs(options, "test")[:32]]
    few = argparse.Namespace(**{**vars(options), "batch": 4})
    precision = choose_precision(device)
    layout = choose_channels_last(device)
    models = {}
    for name in options.detectors:
        torch.manual_seed(0)
        given = {"max_proposals": REGIONS[name]} if name in REGIONS else {}
        models[name] = create_detector(
            name, num_classes=options.classes, backbone=options.backbone, **given
        )
        models[name].resize = Letterbox(options.size)
        step = Training(models[name], few, device, precision, layout, lr=1e-3)
        for _ in range(options.steps):
            step()
        models[name].eval()
    for precision in options.precisions:
        layout = choose_channels_last(device) and not options.contiguous
        pipelines = {
            name: pipeline_of(name, model, device, precision, layout)
            for name, model in models.items()
        }
        for pipeline in pipelines.values():
            _make_it_find(pipeline, encoded[:2], options.boxes)
        with timing_lock():
            seconds = options.seconds / len(options.precisions)
            _table(pipelines, encoded, options, seconds, f"{precision}, channels last {layout}")


def _table(pipelines: dict[str, Pipeline], encoded: list, options, seconds: float, how: str):
    generator = random.Random(0)
    bystanders, start = Bystanders(), time.perf_counter()
    taken: dict[tuple[str, int], list] = defaultdict(list)
    rounds = 0
    while rounds < 3 or (time.perf_counter() - start) * (1 + 1 / rounds) < seconds:
        for batch in options.batches:
            images = [encoded[(rounds + i) % len(encoded)] for i in range(batch)]
            names = generator.sample(list(pipelines), len(pipelines))
            for name in names:
                if rounds == 0:
                    pipelines[name](images)
                for _ in range(max(1, 3 // batch)):
                    taken[name, batch].append(pipelines[name](images))
        rounds += 1
    print(f"{how}; {rounds} rounds; overhead ratio at batch {options.batches}, then network ms")
    for name in pipelines:
        ratios, network, found = [], [], 0.0
        for batch in options.batches:
            passes = taken[name, batch]
            ratios.append(statistics.median(_overhead(p) for p in passes))
            network.append(1e3 * statistics.median(p.network for p in passes))
            found = statistics.mean(len(d) for p in passes for d in p.detections)
        print(
            f"  {name:<24}"
            + "".join(f"{ratio:7.3f}" for ratio in ratios)
            + "".join(f"{ms:9.1f}" for ms in network)
            + f"   {found:5.0f} objects an image"
        )
        for batch in options.batches if options.stages else ():
            rows = zip(*(p.seconds for p in taken[name, batch]), strict=True)
            stages = zip(STAGES, (1e3 * statistics.median(row) for row in rows), strict=True)
            print(f"    batch {batch}: " + ", ".join(f"{s} {ms:.2f}" for s, ms in stages))
    if bystanders.load() > 0.02:
        print(f"  other processes used {bystanders.load():.0%} of the processors meanwhile")


def _overhead(taken) -> float:
    apart = sum(taken.seconds[STAGES.index(stage)] for stage in APART)
    return (taken.end_to_end - apart) / taken.network


@torch.no_grad()
def _make_it_find(pipeline: Pipeline, encoded: list, wanted: int) -> None:
    """Set the score threshold, by bisection of its logarithm, to about `wanted` objects."""
    detector = pipeline.detector
    pictures = [detector.picture_of(data, pipeline.resize) for data in encoded]
    images = pipeline.collate(pictures, detector.proposals_of(pictures))
    images = transfer(images, pipeline.device, pipeline.channels_last)
    low, high = 1e-9, 1.0
    with autocast(pipeline.device, pipeline.precision):
        outputs = detector.network(images)
        for _ in range(40):
            middle = (low * high) ** 0.5
            _set_threshold(detector, middle)
            found = statistics.mean(len(d) for d in detector.decode(outputs, images.sizes))
            low, high = (middle, high) if found > wanted else (low, middle)
    _set_threshold(detector, low)


def _set_threshold(detector: Detector, value: float) -> None:
    detector.score_threshold = value
    if hasattr(detector, "rules"):  # torchvision's own model has it
        model = detector.rules[0]
        getattr(model, "roi_heads", model).score_thresh = value


if __name__ == "__main__":
    main()
