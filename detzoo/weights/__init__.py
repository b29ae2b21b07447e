"""Published checkpoints, read into our detectors."""

from detzoo.weights.points import KINDS as POINT_DETECTORS
from detzoo.weights.points import create_from_points
from detzoo.weights.torchvision import create_from_torchvision, is_torchvision, load_torchvision

__all__ = [
    "POINT_DETECTORS",
    "create_from_points",
    "create_from_torchvision",
    "is_torchvision",
    "load_torchvision",
]
