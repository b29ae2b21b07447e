"""One paper, one file. The names by which `create_detector` and conf/detector/ know them."""

from detzoo.detectors.faster_rcnn import FasterRCNN
from detzoo.detectors.retinanet import RetinaNet

__all__ = ["DETECTORS", "FasterRCNN", "RetinaNet"]

DETECTORS: dict[str, type] = {
    "faster_rcnn": FasterRCNN,
    "retinanet": RetinaNet,
}
