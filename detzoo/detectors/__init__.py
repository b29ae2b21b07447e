"""One paper, one file. DETECTORS has the names for `create_detector` and conf/detector/."""

from collections.abc import Callable
from functools import partial

from detzoo.detector import Detector
from detzoo.detectors.centernet import CenterNet
from detzoo.detectors.cornernet import CornerNet
from detzoo.detectors.detr import DETR
from detzoo.detectors.fast_rcnn import FastRCNN
from detzoo.detectors.faster_rcnn import FasterRCNN
from detzoo.detectors.fcos import FCOS
from detzoo.detectors.rcnn import RCNN
from detzoo.detectors.retinanet import RetinaNet
from detzoo.detectors.ssd import SSD
from detzoo.detectors.torchvision import MODELS, TorchvisionDetector
from detzoo.detectors.transformers import KINDS, TransformersDetector
from detzoo.detectors.yolo import YOLO
from detzoo.detectors.yolov3 import YOLOv3

__all__ = [
    "DETECTORS",
    "DETR",
    "FCOS",
    "RCNN",
    "SSD",
    "YOLO",
    "CenterNet",
    "CornerNet",
    "FastRCNN",
    "FasterRCNN",
    "RetinaNet",
    "TorchvisionDetector",
    "TransformersDetector",
    "YOLOv3",
]

DETECTORS: dict[str, Callable[..., Detector]] = {
    "rcnn": RCNN,
    "fast_rcnn": FastRCNN,
    "faster_rcnn": FasterRCNN,
    "yolo": YOLO,
    "yolov3": YOLOv3,
    "ssd": SSD,
    "retinanet": RetinaNet,
    "fcos": FCOS,
    "cornernet": CornerNet,
    "centernet": CenterNet,
    "detr": DETR,
    **{f"torchvision/{kind}": partial(TorchvisionDetector, kind=kind) for kind in MODELS},
    **{f"transformers/{kind}": partial(TransformersDetector, kind=kind) for kind in KINDS},
}
