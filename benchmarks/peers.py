"""Our detectors beside torchvision's own: training and inference, in one interleaved run.

The same backbone, pixels, precision, layout, anchors and thresholds on both sides; the peer is
torchvision's implementation behind our interface (detector=torchvision/...). Ratios above 1 are in
our favour. Inference is timed as `detzoo speed` does it, from JPEG bytes to boxes at batch 1, on
what the few training steps before have left; the detections per image are printed, since the tail
of a detector costs by their number.

    python benchmarks/peers.py --detectors retinanet --size 320 --batch 8 --seconds 120
"""

from __future__ import annotations

import statistics

import torch
from lib import Training, arguments, begin, interleaved, ratio, shapes, timing_lock

from detzoo.api import create_detector
from detzoo.data.resize import Letterbox
from detzoo.engine.precision import Mode, choose_channels_last, choose_precision
from detzoo.speed.clock import measure


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=90, batch=8)
    parser.add_argument("--detectors", nargs="+", default=["faster_rcnn", "retinanet"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--channels-last", default="auto", choices=["auto", "true", "false"])
    parser.add_argument("--score-threshold", type=float, default=0.05)
    options = parser.parse_args()
    device = begin(options)
    precision = choose_precision(device, options.precision)
    wanted = {"auto": "auto", "true": True, "false": False}[options.channels_last]
    how = {
        "precision": precision,
        "channels_last": choose_channels_last(device, wanted),
    }
    print(", ".join(f"{key} {value}" for key, value in how.items()))
    share = options.seconds / len(options.detectors) / 2
    paths = [sample.path for sample in shapes(options, "test").samples]
    for name in options.detectors:
        models = {}
        for key, kind in {"ours": name, "peer": f"torchvision/{name}"}.items():
            torch.manual_seed(0)
            models[key] = create_detector(
                kind,
                num_classes=6,
                backbone=options.backbone,
                score_threshold=options.score_threshold,
            )
            models[key].resize = Letterbox(options.size)
        steps = {key: Training(model, options, device, **how) for key, model in models.items()}
        with timing_lock():
            rates = interleaved(steps, share, device)
        times = measure(models, paths, device=device, seconds=share, mode=Mode(**how))
        print(f"{name} (ours) and torchvision/{name} (peer), {len(rates['ours'])} training rounds")
        print(f"  {'':<34}{'ours':>10}{'peer':>10}   ours against peer")
        medians = {key: statistics.median(found) for key, found in rates.items()}
        _row("training, images/s", medians, "10.1f", ratio(rates["ours"], rates["peer"]))
        whole = {key: found["samples"]["end_to_end"] for key, found in times.items()}
        medians = {key: found["end_to_end"]["p50"] for key, found in times.items()}
        _row("bytes to boxes, p50 ms", medians, "10.1f", ratio(whole["peer"], whole["ours"]))
        for stage in ("network", "postprocess"):
            medians = {key: found["stages"][stage]["p50"] for key, found in times.items()}
            speedup = medians["peer"] / medians["ours"]
            _row(f"  of it {stage}", medians, "10.1f", f"{speedup:5.2f}x")
        best = {key: found["throughput"]["images_per_second"] for key, found in times.items()}
        _row("best batch, images/s", best, "10.1f", f"{best['ours'] / best['peer']:5.2f}x")
        _row("GMACs", {key: found["gmacs"] for key, found in times.items()}, "10.2f", "")
        found = {key: _detections(model, paths[:16]) for key, model in models.items()}
        _row("detections per image", found, "10.1f", "")
        for warning in times["ours"]["warnings"]:
            print(f"  warning: {warning}")


def _row(what: str, values: dict[str, float], form: str, ratio: str) -> None:
    print(f"  {what:<34}{values['ours']:{form}}{values['peer']:{form}}  {ratio}")


def _detections(model: torch.nn.Module, paths: list) -> float:
    found = model.predict(paths, score_threshold=0.0)
    return statistics.mean(len(detections) for detections in found)


if __name__ == "__main__":
    main()
