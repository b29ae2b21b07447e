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
from lib import arguments, begin, interleaved, pipeline_of, ratio, timing_lock
from lib.networks import NINE, make_detector, one_image, torch_pass, torch_precisions

from detzoo.export import to_onnx
from detzoo.runtimes import PRECISIONS, SESSIONS, ExportedNetwork


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
    model = make_detector(name, options)
    size = (options.size, options.size)
    to_onnx(model, file, size)
    # A network that changes its precision packs its weights anew, which no user's does
    networks = {precision: copy.deepcopy(model) for precision in torch_precisions()}
    for precision, network in networks.items():
        pipeline_of(name, network, torch.device("cpu"), precision, True)  # folds it
    images = one_image(model, options)
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


if __name__ == "__main__":
    main()
