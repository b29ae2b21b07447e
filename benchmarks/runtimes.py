"""What an exported network is worth: torch eager against ONNX Runtime and OpenVINO, network alone.

Every detector with random weights on a real image at batch 1, in interleaved rounds, first with one
thread and then with torch's own choice. torch is as inference has it here (norms folded, weights
cast once); bf16 is shown where the processor multiplies in it. Ratios above 1 say how many times
faster than torch's float32.

    python benchmarks/runtimes.py --detectors retinanet centernet --size 320 --seconds 120
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from itertools import product
from pathlib import Path

import torch
from lib import arguments, begin, interleaved, pipeline_of, ratio, shapes, timing_lock

from detzoo.api import create_detector
from detzoo.data import with_proposals
from detzoo.data.loader import EvaluationBatches
from detzoo.data.resize import Letterbox
from detzoo.engine.precision import autocast, choose_precision, transfer
from detzoo.export import to_onnx
from detzoo.runtimes import PRECISIONS, SESSIONS, ExportedNetwork

NINE = ["rcnn", "fast_rcnn", "faster_rcnn", "yolo", "yolov3", "ssd", "retinanet"]
NINE += ["cornernet", "centernet"]
# The papers' own forms of these two want other pixels; these are conf/detector's
OPTIONS = {
    "yolo": {"neck": "topdown", "head": "conv", "grid": None, "channels": 256},
    "rcnn": {"crop": 64, "context": 4, "max_proposals": 300, "head_width": 1024},
}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=180, batch=1, size=320)
    parser.add_argument("--detectors", nargs="+", default=NINE)
    options = parser.parse_args()
    options.device = "cpu"
    begin(options)
    counts = [options.threads] if options.threads else sorted({1, torch.get_num_threads()})
    share = options.seconds / len(options.detectors) / len(counts)
    with tempfile.TemporaryDirectory() as folder, timing_lock():
        for name in options.detectors:
            compare(name, options, Path(folder) / f"{name}.onnx", counts, share)


@torch.no_grad()
def compare(name: str, options, file: Path, counts: list[int], seconds: float) -> None:
    torch.manual_seed(0)
    more = OPTIONS.get(name, {})
    model = create_detector(name, num_classes=6, backbone=options.backbone, **more)
    model.resize = Letterbox(options.size)
    size = (options.size, options.size)
    to_onnx(model, file, size)
    # A network that changes its precision packs its weights anew, which no user's does
    networks = {precision: copy.deepcopy(model) for precision in torch_precisions()}
    for precision, network in networks.items():
        pipeline_of(name, network, torch.device("cpu"), precision, True)  # folds it
    dataset = with_proposals(shapes(options, "test"), model.proposer)
    how = {"batch_size": 1, "resize": model.resize, "stride": model.stride}
    images = transfer(next(iter(EvaluationBatches(dataset, **how))), "cpu", True)
    for threads in counts:
        torch.set_num_threads(threads)
        work = {f"torch {p}": torch_pass(network, images, p) for p, network in networks.items()}
        for runtime, precision in product(SESSIONS, networks):
            if precision in PRECISIONS[runtime]:
                how = {"runtime": runtime, "precision": precision, "threads": threads}
                exported = ExportedNetwork(model, file, size, **how)
                work[f"{runtime} {precision}"] = lambda exported=exported: bool(exported(images))
        rates = interleaved(work, seconds, torch.device("cpu"))
        print(f"{name}, {threads} threads, {len(rates['torch fp32'])} rounds")
        for what, found in rates.items():
            ms = 1e3 / statistics.median(found)
            print(f"  {what:<17}{ms:9.1f} ms   {ratio(found, rates['torch fp32'])}")


def torch_precisions() -> list[str]:
    return ["fp32", "bf16"] if choose_precision("cpu") == "bf16" else ["fp32"]


def torch_pass(model, images, precision: str):
    def run() -> int:
        with autocast("cpu", precision):
            type(model).network(model, images)
        return 1

    return run


if __name__ == "__main__":
    main()
