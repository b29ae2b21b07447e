"""Detections of a whole data set, as COCO results in original pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from detzoo.data.dataset import Dataset
from detzoo.data.loader import EvaluationBatches
from detzoo.data.resize import Resize, to_original
from detzoo.detector import Detector, eval_mode
from detzoo.engine import distributed
from detzoo.engine.precision import autocast, fastest_convolutions, prepare, transfer
from detzoo.progress import Progress
from detzoo.types import Detections, Images, to_cpu


@torch.no_grad()
def predict_dataset(
    detector: Detector,
    dataset: Dataset,
    *,
    resize: Resize,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    channels_last: bool = False,
    compile: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """COCO results: image_id, category_id (the data set's own), bbox x, y, w, h and score.

    Numbers are the detector's, not rounded. The detector is moved to the device; every module's
    mode is restored. compile: as in `precision.prepare`; a detector that was timed compiled is used
    unchanged, and not compiled again. Several processes take the batches in turns, and each gets
    the results of all, in the order of the data set.
    """
    prepare(detector, device, channels_last, compile, inference=True)
    batches = EvaluationBatches(
        dataset,
        batch_size=batch_size,
        resize=resize,
        stride=detector.stride,
        workers=workers,
        pin=torch.device(device).type == "cuda",
        rank=distributed.rank(),
        processes=distributed.processes(),
    )
    results: list[list[dict[str, Any]]] = []  # of every batch
    shown = Progress(len(dataset.samples), "predict", "images", show=progress)
    fixed = resize.fixed and detector.fixed_shapes
    with eval_mode(detector), fastest_convolutions(fixed), shown as bar:
        for images in batches:
            with autocast(device, precision):
                found = detector(transfer(images, device, channels_last))
            results.append(coco_results(found, images, dataset))
            bar.advance(len(images.frames))
    ours = distributed.interleave(distributed.gather(results))
    return [result for batch in ours for result in batch]


def coco_results(
    found: Sequence[Detections], images: Images, dataset: Dataset
) -> list[dict[str, Any]]:
    """Detections in the network's pixels -> COCO results in original pixels, not rounded."""
    results: list[dict[str, Any]] = []
    for detections, frame in zip(to_cpu(found), images.frames, strict=True):
        results += to_original(detections, frame).to_coco(frame.id, dataset.category_ids)
    return results
