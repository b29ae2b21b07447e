"""A file of detection weights in a known layout, recognised by its keys, with our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.detectors import CenterNet, CornerNet
from detzoo.detectors import TorchvisionDetector as Peer
from detzoo.text import shortened
from detzoo.weights import points, torchvision

COUNTER = "num_batches_tracked"
EPSILON = 1e-5  # of a batch norm; a frozen one had none when torchvision trained its weights

# torchvision's names -> a peer's, whose modules are torchvision's own; ".0" as in `torchvision`
_TO_PEER = [
    (r"^backbone\.body\.", "backbone.model."),
    (
        r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)(?:\.0)?\.(?=weight|bias)",
        r"neck.fpn.\1_blocks.\2.0.",
    ),
    (r"^backbone\.fpn\.", "neck.fpn."),
    (r"^rpn\.head\.conv(?:\.0\.0)?\.(?=weight|bias)", "rpn.conv.0.0."),
    (r"^rpn\.head\.", "rpn."),
    (r"^roi_heads\.box_head\.", "head.0."),
    (r"^roi_heads\.box_predictor\.", "head.1."),
    (r"^backbone\.features\.", "backbone.conv4_3."),
    (r"^backbone\.scale_weight$", "neck.norm.scale"),
    (r"^backbone\.extra\.0\.7\.1\.", "backbone.conv7.8."),
    (r"^backbone\.extra\.0\.7\.3\.", "backbone.conv7.10."),
    (r"^backbone\.extra\.0\.", "backbone.conv7."),
    *((rf"^backbone\.extra\.{i + 1}\.", f"neck.extra.{i}.") for i in range(4)),
]
_OLD_TOWER = re.compile(r"(head\.\w+_head\.conv)\.([0246])\.(weight|bias)")


@dataclass(frozen=True)
class Weights:
    """state: by the names of the detector that it was read for. classes: in the order of its
    labels, numbers if the file has none; None: to be counted by the caller."""

    state: dict[str, Tensor]
    classes: tuple[str, ...] | None


def load_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, as `state_in` gives it. Runs no code. ValueError for none."""
    if not path.is_file():
        raise ValueError(f"start is {path}, where there is no file")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; none of them names the file
        said = str(error).split("\n")[0][:200]
        raise ValueError(f"{path}: not a file of weights that loads safely ({said})") from error
    return state_in(found, path)


def state_in(found: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds, without wrappers and counters.

    Of a checkpoint of detzoo's the averaged weights, where it has them. path: for errors. Raises
    ValueError for none, and for weights that nothing can start from.
    """
    for key in ("ema", "model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path}: holds no weights by name")
    names = {re.sub(r"^(module\.)+", "", str(key)): value for key, value in found.items()}
    state = {key: value for key, value in names.items() if not key.endswith(COUNTER)}
    for key, value in state.items():
        if reason := _unsound(value):
            raise ValueError(f"{path}: {shortened(key, 100)} {reason}; is the file damaged?")
    return state


def _unsound(value: Tensor) -> str | None:
    """Why a tensor is no weights that a training can start from; None where it is."""
    if value.layout != torch.strided or value.is_complex() or value.is_quantized or value.is_meta:
        return "holds no plain numbers"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return "claims to be larger than it is stored"
    if value.is_floating_point() and not torch.isfinite(value).all():
        return "holds values that are not finite"
    return None


def read(path: Path, detector: Detector, *, published: bool = False) -> Weights:
    """The weights in a file for a detector of that type, with any number of classes.

    Known layouts: detzoo's own, torchvision's detection models, the authors' CenterNet and
    CornerNet. published: it is torchvision's own file, trained by a frozen batch norm without
    epsilon. Raises ValueError for another layout and for another detector's weights.
    """
    state = load_state(path)
    published = published or path.name.startswith(tuple(torchvision.HUB_FILES.values()))
    if torchvision.is_torchvision(state):
        return _of_torchvision(path, detector, state, published)
    if any(key.startswith(("hm.", "tl_heats.")) for key in state):
        kind = CornerNet if any(key.startswith("tl_heats.") for key in state) else CenterNet
        _check_type(path, kind.__name__, isinstance(detector, kind), type(detector).__name__)
        state = {k: v for k, v in state.items() if not points.UNUSED.fullmatch(k)}
        ours = points.converted(state)
        heat = next(v for k, v in ours.items() if k.endswith("heatmap.bias"))
        return Weights(ours, points.coco_names() if len(heat) == 80 else None)
    if (
        any(key.startswith("backbone.") for key in state)
        and len({key.split(".")[0] for key in state}) > 1
    ):
        return Weights(state, None)
    raise ValueError(
        f"{path}: no detector's weights in a layout that is known here (detzoo's, torchvision's, "
        "the authors' CenterNet and CornerNet); a backbone's alone are backbone.weights=FILE"
    )


def _of_torchvision(
    path: Path, detector: Detector, state: dict[str, Tensor], published: bool
) -> Weights:
    name = _kind(state)
    peer = isinstance(detector, Peer)
    ours = torchvision.KINDS[name]
    asked = f"torchvision/{detector.kind}" if peer else type(detector).__name__
    fits = detector.kind == name if peer else type(detector) is ours
    _check_type(path, ours.__name__, fits, asked)
    found = _to_peer(state) if peer else torchvision.converted(ours, state)
    if published and name in ("faster_rcnn", "retinanet"):
        found = {k: v - EPSILON if k.endswith("running_var") else v for k, v in found.items()}
    background = name in ("faster_rcnn", "ssd")
    outputs = {
        "faster_rcnn": lambda: len(state["roi_heads.box_predictor.cls_score.bias"]),
        "ssd": lambda: (
            4
            * len(state["head.classification_head.module_list.0.bias"])
            // len(state["head.regression_head.module_list.0.bias"])
        ),
        "fcos": lambda: len(state["head.classification_head.cls_logits.bias"]),
        "retinanet": lambda: (
            4
            * len(state["head.classification_head.cls_logits.bias"])
            // len(state["head.regression_head.bbox_reg.bias"])
        ),
    }[name]()
    coco = torchvision.coco_names(name)
    return Weights(found, coco if outputs - background == len(coco) else None)


def _kind(state: Mapping[str, Tensor]) -> str:
    """Which of torchvision's detectors a state dict is of."""
    if any(key.startswith("roi_heads.") for key in state):
        return "faster_rcnn"
    if any(key.startswith("backbone.features.") for key in state):
        return "ssd"
    return "fcos" if "head.regression_head.bbox_ctrness.bias" in state else "retinanet"


def _to_peer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's state dict by the names that its modules have inside of a peer."""
    old = "head.classification_head.conv.2.weight" in state and not any(
        re.match(r"head\.\w+_head\.conv\.\d\.0\.", key) or ".conv.1." in key for key in state
    )  # the older RetinaNet counts the ReLUs between its convolutions
    found = {}
    for key, value in state.items():
        for pattern, replacement in _TO_PEER:
            key = re.sub(pattern, replacement, key)
        tower = _OLD_TOWER.fullmatch(key)
        if old and tower:
            key = f"{tower[1]}.{int(tower[2]) // 2}.0.{tower[3]}"
        found[key] = value
    return found


def _check_type(path: Path, theirs: str, fits: bool, asked: str) -> None:
    if not fits:
        raise ValueError(
            f"{path} holds a {theirs}'s weights, and the detector asked for is {asked}"
        )
