"""The cost of a detector apart from time: multiply-adds, parameters, memory."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from detzoo.detector import Detector, eval_mode
from detzoo.engine.folded import folded_weights, torch_operators
from detzoo.engine.precision import autocast, transfer
from detzoo.imagefile import ImageFile
from detzoo.speed.stages import Pipeline, spaced
from detzoo.types import Images

COST_IMAGES = 8  # over which multiply-adds are counted where they depend on the image
ALIKE = 3  # images of equal shape and equal count, after which it is taken not to
PEAK_MEMORY_MEASURES = {
    False: "MiB: weights, buffers, folded weights + peak of live tensors in a pass, by torch",
    True: "MiB: weights, buffers, folded weights + growth of max_memory_allocated in one pass",
}


def parameters(detector: nn.Module) -> int:
    """The number of parameters, frozen ones included, shared ones once."""
    return sum(p.numel() for p in detector.parameters())


@torch.no_grad()
def gmacs(detector: Detector, images: Images) -> float:
    """Billions of multiply-adds from `images` to detections, whole batch, on the actual shapes.

    Counted by torch's flop counter, which counts two operations a multiply-add; we halve it. It
    sees convolutions, matrix products and attention; not element-wise work, pooling, RoI Align or
    NMS. A convolution's padding counts as if it were image. A two-stage detector's second stage is
    counted at the proposals that it makes of these very images. A compiled network is counted as it
    was written: into its kernels the counter does not see; a convolution done by Winograd's way, as
    if by the plain sum.
    """
    compiled = vars(detector).pop("network", None)
    try:
        with (
            eval_mode(detector),
            _without_gradients(detector),
            torch_operators(detector),
            FlopCounterMode(display=False) as counter,
        ):
            detector(images)
    finally:
        if compiled is not None:
            detector.network = compiled
    return counter.get_total_flops() / 2 / 1e9


@contextmanager
def _without_gradients(detector: nn.Module) -> Iterator[None]:
    """A context in which no parameter requires a gradient.

    Even under no_grad a view of a parameter may, and the counter then reads a missing grad_fn.
    """
    learnt = [p for p in detector.parameters() if p.requires_grad]
    try:
        for parameter in learnt:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


@torch.no_grad()
def peak_memory_mb(detector: Detector, images: Images) -> float:
    """MiB: the detector's own weights and buffers + the peak growth while it detects in `images`.

    What folding keeps of the weights beside them (engine.folded) is counted with them.

    Other detectors on the same device do not count, nor does memory that an allocator caches. On a
    GPU the growth is `torch.cuda.max_memory_allocated` minus the allocation before. On a CPU it is
    the peak of the bytes of live tensors, by torch's profiler of its allocator: unlike a process's
    resident memory it does not depend on what ran before, but scratch memory that libraries
    allocate outside of torch (oneDNN's, OpenCV's) is not included.
    """
    tensors = [*detector.parameters(), *detector.buffers(), *folded_weights(detector)]
    own = sum(dict(map(_storage, tensors)).values())
    device = images.pixels.device
    with eval_mode(detector):
        growth = _cuda_growth if device.type == "cuda" else _cpu_growth
        return (own + growth(detector, images)) / 2**20


def _storage(tensor: Tensor) -> tuple[int, int]:
    """Its identity and its bytes; a tensor in oneDNN's own layout (engine.packed) has no other."""
    if tensor.is_mkldnn:
        return id(tensor), tensor.nbytes
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def _cuda_growth(detector: Detector, images: Images) -> int:
    device = images.pixels.device
    detector(images)  # workspaces are chosen at the first run
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    detector(images)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _cpu_growth(detector: Detector, images: Images) -> int:
    detector(images)
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # it complains of a missing GPU on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        detector(images)
    # The only public way to the running total: the trace, an event per allocation and release.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Ev Idx"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]" and event["args"]["Device Type"] == 0
    )
    held = peak = 0
    for _, _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def measure_cost(
    pipeline: Pipeline, encoded: Sequence[ImageFile], shapes: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Memory on the first image of the most frequent shape; multiply-adds over several.

    A second stage's depend on what the first one proposes, and all of them on the input's shape:
    so `gmacs` is the mean over COST_IMAGES images, one at a time, with its standard deviation.
    Where ALIKE images of the only shape have one count, that is every image's.
    """
    frequent = Counter(shapes).most_common(1)[0][0]

    def batch(data: ImageFile) -> Images:
        pictures = [pipeline.detector.picture_of(data, pipeline.resize)]
        images = pipeline.collate(pictures, pipeline.detector.proposals_of(pictures))
        return transfer(images, pipeline.device, pipeline.channels_last)

    first = batch(encoded[shapes.index(frequent)])
    counts: list[float] = []
    with autocast(pipeline.device, pipeline.precision):
        for data in spaced(encoded, COST_IMAGES):
            counts.append(gmacs(pipeline.detector, batch(data)))
            if len(counts) == ALIKE and len(set(counts)) == len(set(shapes)) == 1:
                break
        return {
            "gmacs": statistics.fmean(counts),
            "gmacs_sd": statistics.stdev(counts) if len(counts) > 1 else None,
            "gmacs_images": len(counts),
            "input": list(first.pixels.shape),
            "parameters": parameters(pipeline.detector),
            "peak_memory_mb": peak_memory_mb(pipeline.detector, first),
            "peak_memory_measures": PEAK_MEMORY_MEASURES[pipeline.device.type == "cuda"],
        }
