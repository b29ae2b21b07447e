"""The networks of the nine detectors as inference has them, on one real image, timed alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from detzoo.api import create_detector
from detzoo.data import with_proposals
from detzoo.data.loader import EvaluationBatches
from detzoo.data.resize import Letterbox
from detzoo.detector import Detector
from detzoo.engine.precision import autocast, choose_precision, transfer
from detzoo.types import Images
from lib import shapes

NINE = ["rcnn", "fast_rcnn", "faster_rcnn", "yolo", "yolov3", "ssd", "retinanet"]
NINE += ["cornernet", "centernet"]
# The papers' own forms of these two want other pixels; these are conf/detector's
OPTIONS = {
    "yolo": {"neck": "topdown", "head": "conv", "grid": None, "channels": 256},
    "rcnn": {"crop": 64, "context": 4, "max_proposals": 300, "head_width": 1024},
}


def make_detector(name: str, options: argparse.Namespace) -> Detector:
    """With random weights, of six classes."""
    torch.manual_seed(0)
    more = OPTIONS.get(name, {})
    model = create_detector(name, num_classes=6, backbone=options.backbone, **more)
    model.resize = Letterbox(options.size)
    return model


def one_image(model: Detector, options: argparse.Namespace) -> Images:
    """A batch of one of the drawn shapes, with proposals if the detector wants them."""
    dataset = with_proposals(shapes(options, "test"), model.proposer)
    how = {"batch_size": 1, "resize": model.resize, "stride": model.stride}
    return transfer(next(iter(EvaluationBatches(dataset, **how))), "cpu", True)


def torch_precisions() -> list[str]:
    """fp32, and bf16 where the processor multiplies in it."""
    return ["fp32", "bf16"] if choose_precision("cpu") == "bf16" else ["fp32"]


def torch_pass(model: Detector, images: Images, precision: str) -> Callable[[], int]:
    def run() -> int:
        with autocast("cpu", precision):
            type(model).network(model, images)
        return 1

    return run
