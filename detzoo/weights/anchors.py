"""The anchors that deltas refer to: with other anchors the same weights predict other boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from detzoo.detector import Detector
from detzoo.detectors import SSD, FasterRCNN, RetinaNet, TorchvisionDetector, YOLOv3
from detzoo.nn import VGG16, Backbone
from detzoo.weights.torchvision import KINDS, SETTINGS

_GENERATORS = ("sizes", "aspect_ratios", "scales", "steps")  # of torchvision's two


def anchors_of(detector: Detector) -> dict[str, Any]:
    """What decides a detector's anchors, by name, as plain values; {} where it has none."""
    if isinstance(detector, SSD):
        return _values(detector, ("scales", "ratios", "steps"))
    if isinstance(detector, YOLOv3):
        return _values(detector, ("priors", "strides"))
    if isinstance(detector, TorchvisionDetector):
        model = detector.rules[0]
        generator = model.rpn if detector.kind == "faster_rcnn" else model
        return _values(generator.anchor_generator, _GENERATORS)
    if isinstance(detector, FasterRCNN | RetinaNet):
        anchors = detector.rpn.anchors if isinstance(detector, FasterRCNN) else detector.anchors
        return _values(anchors, ("strides", "sizes", "ratios"))
    return {}


def published_anchors(name: str) -> dict[str, Any]:
    """Those that torchvision's weights of `name` were trained with."""
    with torch.device("meta"):
        backbone = VGG16() if name == "ssd" else Backbone("resnet50")
        return anchors_of(KINDS[name](backbone=backbone, num_classes=1, **SETTINGS[name]))


def apart(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Which anchors are others, with both values; empty where none are."""
    names = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    return "; ".join(f"{name} {ours[name]}, theirs {theirs[name]}" for name in names)


def _values(owner: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: _plain(getattr(owner, name)) for name in names if hasattr(owner, name)}


def _plain(value: Any) -> Any:
    """Lists for tuples, and numbers rounded to four decimals."""
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return round(value, 4) if isinstance(value, float) else value
