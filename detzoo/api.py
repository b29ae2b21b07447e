"""The Python face: detectors by name, and trained ones from their run directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from detzoo.detector import Detector
from detzoo.detectors import DETECTORS
from detzoo.nn import Backbone, Hourglass


def list_detectors() -> list[str]:
    """The names that `create_detector` takes."""
    return sorted(DETECTORS)


def create_detector(
    name: str,
    *,
    num_classes: int | None = None,
    backbone: str | Backbone | Hourglass | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **arguments: Any,
) -> Detector:
    """A detector in eval mode.

    name: one of `list_detectors()`. num_classes: K; labels are 0..K-1; weights bring their own.
    backbone: a timm name, a Backbone or an Hourglass; resnet18 by default, resnet50 with weights.
    pretrained: with timm's ImageNet weights in the backbone (downloads). weights:
    "torchvision/COCO_V1" (downloads), or a file of torchvision's weights for the same detector, or
    of the original CenterNet or CornerNet's.
    arguments: the detector's own, its paper's values by default. Raises ValueError for an unknown
    name and for weights that do not fit.
    """
    if name not in DETECTORS:
        raise ValueError(f"no detector {name!r}; choose one of {', '.join(list_detectors())}")
    if weights is not None:
        from detzoo.weights import POINT_DETECTORS, create_from_points, create_from_torchvision

        points = name in POINT_DETECTORS and not str(weights).startswith("torchvision/")
        if isinstance(backbone, str) and not points:
            backbone = Backbone(backbone, norm="frozen_bn")  # as torchvision's were trained
        given = {"num_classes": num_classes, "backbone": backbone}
        arguments |= {key: value for key, value in given.items() if value is not None}
        create = create_from_points if points else create_from_torchvision
        return create(name, weights, **arguments)
    if num_classes is None:
        raise ValueError(f"how many classes has the {name}? give num_classes")
    if backbone is None or isinstance(backbone, str):
        backbone = Backbone(backbone or "resnet18", pretrained=pretrained)
    elif pretrained:
        raise ValueError("pretrained is for a backbone given by name, and here is a built one")
    return DETECTORS[name](backbone=backbone, num_classes=num_classes, **arguments).eval()


def load(run_directory: str | Path, device: torch.device | str = "cpu") -> Detector:
    """The trained detector of a run directory, in eval mode, with its resize and class names.

    Runs no code from the directory: classes are built only if detzoo allows them, weights are read
    with `weights_only=True`, and nothing is downloaded. Raises ValueError for a directory that is
    no run or whose training has not written a checkpoint.
    """
    from detzoo.config import build, load_yaml
    from detzoo.engine.checkpoint import load_weights

    run = Path(run_directory)
    if not (run / "config.yaml").is_file():
        raise ValueError(f"{run} is no run directory: there is no config.yaml in it")
    if not (run / "checkpoint.pt").is_file():
        raise ValueError(
            f"{run} has no checkpoint.pt: it was not trained, or failed before the first"
        )
    settings = load_yaml(run / "config.yaml")
    missing = [key for key in ("detector", "resize", "classes") if key not in settings]
    if missing:
        raise ValueError(f"{run / 'config.yaml'} lacks {', '.join(missing)}")
    node = settings["detector"]
    if isinstance(node, dict) and isinstance(node.get("backbone"), dict):
        # The checkpoint has every weight; what training began with may not even be there any more.
        given = node["backbone"]
        unset = {"pretrained": False, "weights": None}
        node["backbone"] = given | {k: v for k, v in unset.items() if k in given}
    detector = build(node, f"{run / 'config.yaml'}: detector")
    if not isinstance(detector, Detector):
        raise ValueError(f"{run / 'config.yaml'}: {node['_target_']} is no detector")
    load_weights(detector, run)
    detector.resize = build(settings["resize"], f"{run / 'config.yaml'}: resize")
    detector.class_names = tuple(settings["classes"])
    return detector.to(device).eval()
