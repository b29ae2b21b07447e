"""torchvision's Faster R-CNN, RetinaNet and FCOS on ResNet-50, and its `ssd300_vgg16`, as ours.

Both layouts of their checkpoints are read: the present one, and the older one of the published
files. Labels: the 91 outputs of Faster R-CNN and SSD are background and COCO's category ids 1..90,
so ours are category id - 1; RetinaNet's and FCOS's 91 have no background but an output 0 that no
category has, so their labels are the category ids themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detzoo.data.resize import Resize, ShortestSide, Stretch
from detzoo.detector import Detector
from detzoo.detectors import FCOS, SSD, FasterRCNN, RetinaNet
from detzoo.nn import VGG16, Backbone

PREFIX = "torchvision/"
HUB_FILES = {
    "faster_rcnn": "fasterrcnn_resnet50_fpn_coco",
    "retinanet": "retinanet_resnet50_fpn_coco",
    "fcos": "fcos_resnet50_fpn_coco",
    "ssd": "ssd300_vgg16_coco",
}
KINDS = {"faster_rcnn": FasterRCNN, "retinanet": RetinaNet, "fcos": FCOS, "ssd": SSD}
# The constructor's arguments under which ours are theirs
SETTINGS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"anchors_as_torchvision": True, "aligned": False},
    "retinanet": {
        "anchors_as_torchvision": True,
        "extra": "conv_p5",
        "anchor_sizes": [
            [int(size * 2 ** (i / 3)) for i in range(3)] for size in (32, 64, 128, 256, 512)
        ],
    },
    "fcos": {
        "points_as_torchvision": True,
        "distances": "relu",
        "score": "geometric_mean",
        "score_threshold": 0.2,
        "nms_threshold": 0.6,
    },
    "ssd": {
        "scales": [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        "steps": [8, 16, 32, 64, 100, 300],
    },
}
_NORM = re.compile(r"\.num_batches_tracked$")

# (pattern of theirs, ours); an optional ".0" is what the present layout has and the older has not.
_PYRAMID = [
    (r"backbone\.body\.(.+)", r"backbone.model.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"neck.lateral.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"neck.smooth.\1.\2"),
]
_FURTHER = [
    (r"backbone\.fpn\.extra_blocks\.p6\.(.+)", r"neck.further.0.\1"),
    (r"backbone\.fpn\.extra_blocks\.p7\.(.+)", r"neck.further.1.\1"),
]
_RENAMES: dict[type, list[tuple[str, str]]] = {
    FasterRCNN: [
        *_PYRAMID,
        (r"rpn\.head\.conv(?:\.0\.0)?\.(weight|bias)", r"rpn.conv.\1"),
        (r"rpn\.head\.cls_logits\.(.+)", r"rpn.objectness.\1"),
        (r"rpn\.head\.bbox_pred\.(.+)", r"rpn.deltas.\1"),
        (r"roi_heads\.box_head\.(fc[67]\..+)", r"head.\1"),
        (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"head.scores.\1"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"head.deltas.\1"),
    ],
    RetinaNet: [
        *_PYRAMID,
        *_FURTHER,
        (r"head\.classification_head\.cls_logits\.(.+)", r"head.logits.\1"),
        (r"head\.regression_head\.bbox_reg\.(.+)", r"head.deltas.\1"),
    ],
    FCOS: [
        *_PYRAMID,
        *_FURTHER,
        (r"head\.classification_head\.conv\.(.+)", r"head.class_tower.\1"),
        (r"head\.classification_head\.cls_logits\.(.+)", r"head.logits.\1"),
        (r"head\.regression_head\.conv\.(.+)", r"head.box_tower.\1"),
        (r"head\.regression_head\.bbox_reg\.(.+)", r"head.distances.\1"),
        (r"head\.regression_head\.bbox_ctrness\.(.+)", r"head.centerness.\1"),
    ],
    SSD: [
        (r"backbone\.features\.(.+)", r"backbone.conv4_3.\1"),
        (r"backbone\.scale_weight", r"neck.norm.scale"),
        (r"backbone\.extra\.0\.7\.1\.(.+)", r"backbone.conv7.8.\1"),
        (r"backbone\.extra\.0\.7\.3\.(.+)", r"backbone.conv7.10.\1"),
        (r"backbone\.extra\.0\.([135]\..+)", r"backbone.conv7.\1"),
        *((rf"backbone\.extra\.{i + 1}\.(.+)", rf"neck.further.{i}.\1") for i in range(4)),
        (r"head\.classification_head\.module_list\.(.+)", r"head.logits.\1"),
        (r"head\.regression_head\.module_list\.(.+)", r"head.deltas.\1"),
    ],
}
_TOWER = re.compile(r"head\.(classification|regression)_head\.conv\.(\d)(\.0)?\.(weight|bias)")


def is_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is of torchvision's detection models."""
    return any(key.startswith(("backbone.body.", "backbone.features.")) for key in state)


def load_torchvision(detector: Detector, state: Mapping[str, Tensor]) -> None:
    """Copy torchvision's weights into `detector`, strictly: all of theirs into all of ours.

    Raises ValueError for a detector that has no counterpart and for keys or shapes that do not fit.
    """
    own = {k: v.shape for k, v in detector.state_dict().items() if not _NORM.search(k)}
    theirs = converted(type(detector), state)
    shapes = {key: value.shape for key, value in theirs.items()}
    if own != shapes:
        key = sorted(k for k in own.keys() | shapes if own.get(k) != shapes.get(k))[0]
        raise ValueError(
            f"these weights do not fit {type(detector).__name__}: {key} is {own.get(key)} in the "
            f"detector and {shapes.get(key)} in the file; num_classes, channels and backbone must "
            "be those that the weights were trained with"
        )
    detector.load_state_dict(theirs, strict=False)


def converted(kind: type, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their names and rows -> those of our detector `kind`. ValueError for a key without one."""
    ours = {_rename(kind, k): v for k, v in state.items() if not _NORM.search(k)}
    if kind is FasterRCNN:
        _move_background(ours)
    elif kind is SSD:
        anchors = len(ours["head.deltas.0.bias"]) // 4
        _move_background_of_ssd(ours, len(ours["head.logits.0.bias"]) // anchors)
    return ours


def create_from_torchvision(name: str, source: str | Path, **arguments: Any) -> Detector:
    """A detector with torchvision's weights and torchvision's settings.

    name: `faster_rcnn`, `retinanet`, `fcos` or `ssd`. source: `torchvision/COCO_V1` (downloaded
    where the machine can) or a file of that layout. arguments: the constructor's, where they should
    differ. Loads with weights_only=True.
    """
    if name not in HUB_FILES:
        raise ValueError(f"torchvision's weights can be read into {sorted(HUB_FILES)}, not {name}")
    state, published = _read(name, source)
    kind, settings, resize = _as_theirs(name, state)
    given = arguments.get("num_classes")
    if given not in (None, settings["num_classes"]):
        raise ValueError(
            f"num_classes is {given}, but {source} has {settings['num_classes']} classes; "
            "leave it out"
        )
    arguments.pop("num_classes", None)
    if "backbone" not in arguments:
        ours = VGG16() if name == "ssd" else Backbone("resnet50", norm="frozen_bn")
        arguments["backbone"] = ours
    detector = kind(**(settings | arguments))
    load_torchvision(detector, state)
    if published:
        if name != "fcos":  # trained when torchvision's frozen batch norm had no epsilon
            for module in detector.modules():
                if hasattr(module, "running_var"):
                    module.eps = 0.0
        detector.class_names = coco_names(name)
    detector.resize = resize
    return detector.eval()


def _as_theirs(
    name: str, state: Mapping[str, Tensor]
) -> tuple[type[Detector], dict[str, Any], Resize]:
    """Our class, the settings under which it is torchvision's, and how their images are resized."""
    bias, anchors, background = {
        "faster_rcnn": ("roi_heads.box_predictor.cls_score.bias", 1, 1),
        "retinanet": ("head.classification_head.cls_logits.bias", 9, 0),
        "fcos": ("head.classification_head.cls_logits.bias", 1, 0),
        "ssd": ("head.classification_head.module_list.0.bias", 4, 1),
    }[name]
    classes = len(state[bias]) // anchors - background
    resize = Stretch(300) if name == "ssd" else ShortestSide(800, 1333)
    return KINDS[name], SETTINGS[name] | {"num_classes": classes}, resize


def _read(name: str, source: str | Path) -> tuple[Mapping[str, Tensor], bool]:
    if str(source).startswith(PREFIX):
        which = str(source).removeprefix(PREFIX)
        weights = weights_enum(name)
        if which not in weights.__members__:
            raise ValueError(f"weights is {source}; torchvision has {list(weights.__members__)}")
        return weights[which].get_state_dict(
            progress=True, check_hash=True, weights_only=True
        ), True
    state = torch.load(source, map_location="cpu", weights_only=True)
    state = state.get("model", state)  # torchvision's reference scripts keep it under "model"
    if not is_torchvision(state):
        raise ValueError(f"{source}: no torchvision detection checkpoint")
    return state, Path(source).name.startswith(HUB_FILES[name])


def weights_enum(name: str) -> Any:
    from torchvision.models import detection

    kinds = {
        "faster_rcnn": detection.FasterRCNN_ResNet50_FPN_Weights,
        "retinanet": detection.RetinaNet_ResNet50_FPN_Weights,
        "fcos": detection.FCOS_ResNet50_FPN_Weights,
        "ssd": detection.SSD300_VGG16_Weights,
    }
    return kinds[name]


def coco_names(name: str) -> tuple[str, ...]:
    categories = tuple(weights_enum(name).COCO_V1.meta["categories"])
    return categories if name in ("retinanet", "fcos") else categories[1:]


def _rename(kind: type, key: str) -> str:
    tower = _TOWER.fullmatch(key)
    if kind is RetinaNet and tower:
        which, index, present, what = tower.groups()
        layer = 2 * int(index) if present else int(index)  # the older layout counts the ReLUs too
        return f"head.{'class' if which == 'classification' else 'box'}_tower.{layer}.{what}"
    for pattern, ours in _RENAMES.get(kind, []):
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(ours)
    raise ValueError(f"torchvision's key {key} has no counterpart in {kind.__name__}")


def _move_background(state: dict[str, Tensor]) -> None:
    """Their background is output 0 and has a box; ours is output K and has none."""
    for part in ("weight", "bias"):
        scores, deltas = f"head.scores.{part}", f"head.deltas.{part}"
        state[scores] = torch.roll(state[scores], -1, 0)
        state[deltas] = state[deltas][4:]


def _move_background_of_ssd(state: dict[str, Tensor], scores: int) -> None:
    """Each default box has `scores` outputs, theirs begin with the background and ours end so."""
    for key in [key for key in state if key.startswith("head.logits.")]:
        per_box = state[key].unflatten(0, (-1, scores))
        state[key] = torch.roll(per_box, -1, 1).flatten(0, 1)
