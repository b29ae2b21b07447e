"""One paper, one file. The names by which `create_detector` and conf/detector/ know them."""

from collections.abc import Callable
from functools import partial

from detzoo.detector import Detector
from detzoo.detectors.centernet import CenterNet
from detzoo.detectors.cornernet import CornerNet
from detzoo.detectors.faster_rcnn import FasterRCNN
from detzoo.detectors.retinanet import RetinaNet
from detzoo.detectors.torchvision import MODELS, TorchvisionDetector

__all__ = ["DETECTORS", "CenterNet", "CornerNet", "FasterRCNN", "RetinaNet", "TorchvisionDetector"]

DETECTORS: dict[str, Callable[..., Detector]] = {
    "faster_rcnn": FasterRCNN,
    "retinanet": RetinaNet,
    "cornernet": CornerNet,
    "centernet": CenterNet,
    **{f"torchvision/{kind}": partial(TorchvisionDetector, kind=kind) for kind in MODELS},
}
