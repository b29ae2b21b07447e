"""Published detection weights: where they are, what they saw, and under which settings they fit."""

from __future__ import annotations

import hashlib
import json
import socket
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from detzoo.detectors import DETECTORS
from detzoo.nn import Hourglass
from detzoo.weights.points import MEAN, STD, UNUSED, settings_of
from detzoo.weights.source import load_state
from detzoo.weights.torchvision import PREFIX, SETTINGS, is_torchvision, weights_enum

SEEN = "118,287 images of COCO train2017, the backbone ImageNet before"
SEEN_FROM_SCRATCH = "118,287 images of COCO train2017"
PATIENCE = 20.0  # seconds for a server to answer
PROTOCOL = ("score_threshold", "max_detections")  # equal for all rows, whatever was published
CENTERNET = "https://github.com/xingyizhou/CenterNet/blob/master/readme/MODEL_ZOO.md"
CORNERNET = "https://github.com/princeton-vl/CornerNet"


class Missing(ValueError):
    """A file that is neither here nor to be fetched."""


@dataclass(frozen=True)
class Published:
    """One detector's weights. file: its name in torch.hub's cache. url: None where only people can
    fetch it, from `page`. sha256: the first digits, where they are known. seen: what it was trained
    on. settings: of `detzoo train`, under which it fits and sees the pixels that it was trained on.
    """

    file: str
    page: str
    url: str | None
    sha256: str | None
    seen: str
    settings: dict[str, Any]


_FROZEN = {"backbone": "resnet50", "backbone.norm": "frozen_bn", "resize": "shortest_side"}
_FROZEN |= {"channels": 256}
_POINTS = {"resize": "letterbox", "resize.size": 512, "size_weight": 0.1}


def _own(name: str) -> dict[str, Any]:
    return {f"detector.{k}": v for k, v in SETTINGS[name].items() if k not in PROTOCOL}


def _proposals(prefix: str, *pairs: tuple[str, int]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in pairs}


# In addition to `Published.settings`: torchvision's own numbers of proposals
_TORCHVISION: dict[str, dict[str, Any]] = {
    "faster_rcnn": _FROZEN
    | {"head_width": 1024, "smallest_anchor": 32, "detector.roi_batch": 512}
    | {"detector.pre_nms": [2000, 1000], "detector.post_nms": [2000, 1000]}
    | _own("faster_rcnn"),
    "retinanet": _FROZEN
    | {"finest_level": 3, "octave_scales": 3, "detector.tower_norm": False}
    | _own("retinanet"),
    "fcos": _FROZEN | {"finest_level": 3} | _own("fcos"),
    "ssd": {"backbone": "vgg16", "resize": "stretch", "resize.size": 300, "finest_level": 3}
    | {"detector.extra_channels": [512, 256, 256, 256], "detector.unpadded": 2}
    | _own("ssd"),
    "torchvision/faster_rcnn": _FROZEN
    | {"head_width": 1024, "smallest_anchor": 32}
    | _proposals(
        "detector.options.",
        *(("rpn_pre_nms_top_n_train", 2000), ("rpn_pre_nms_top_n_test", 1000)),
        *(("rpn_post_nms_top_n_train", 2000), ("rpn_post_nms_top_n_test", 1000)),
        ("box_batch_size_per_image", 512),
    ),
    "torchvision/retinanet": _FROZEN
    | {"finest_level": 3, "smallest_anchor": 32, "detector.tower_norm": False},
    "torchvision/fcos": _FROZEN,
    "torchvision/ssd": {"backbone": "vgg16", "resize": "stretch", "resize.size": 300}
    | {"detector.channels": [512, 256, 256, 256], "detector.unpadded": 2}
    | {"detector.l2_scale": 20.0, "detector.steps": SETTINGS["ssd"]["steps"]},
}


@cache
def published(detector: str) -> Published | None:
    """The weights of a detector by its name in conf/detector, None where none are known here."""
    if detector in _TORCHVISION:
        name = detector.removeprefix("torchvision/")
        url = weights_enum(name).COCO_V1.url
        file = url.rpartition("/")[2]
        digits = file.rpartition("-")[2].removesuffix(".pth")
        page = f"{PREFIX}COCO_V1"
        return Published(file, page, url, digits, SEEN, _TORCHVISION[detector])
    if detector == "centernet":  # DLA-34, 230 epochs; the smaller networks are start=FILE
        settings = _POINTS | {
            "backbone": "resnet50",
            "backbone.name": "dla34",
            "backbone.mean": list(MEAN),
            "backbone.std": list(STD),
            "detector.upsample": "dla",
            "detector.upsample_convolutions": "deformable",
            "detector.head_channels": 256,
        }
        return Published("ctdet_coco_dla_2x.pth", CENTERNET, None, None, SEEN, settings)
    if detector == "cornernet":
        settings = {**_POINTS, "backbone": "hourglass", "channels": 256}
        del settings["size_weight"]
        settings |= {"detector.max_distance": 0.5, "detector.pair_score": "mean"}
        file = "CornerNet_500000.pkl"
        return Published(file, CORNERNET, None, None, SEEN_FROM_SCRATCH, settings)
    return None


def in_cache(file: str) -> Path:
    """Where torch.hub keeps a file of that name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def fetch(detector: str) -> Path:
    """The file with a detector's published weights, downloaded if it is not in the cache.

    Raises Missing, a ValueError that names the file, its source and its place; and ValueError for a
    damaged one.
    """
    one = published(detector)
    if one is None:
        raise ValueError(f"start=coco: no published detection weights of {detector} are known here")
    path = in_cache(one.file)
    if not path.is_file():
        bring = f"{detector} needs {one.file}: bring it from {one.url or one.page} to {path}"
        if one.url is None:
            raise Missing(f"{bring} (no program can fetch it there)")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with patience():
                torch.hub.download_url_to_file(one.url, str(path), one.sha256, progress=True)
        except (urllib.error.URLError, OSError, RuntimeError) as error:  # RuntimeError: the hash
            raise Missing(f"{bring} (not fetched: {error})") from error
    digest = _sha256(path, path.stat().st_mtime_ns)
    if one.sha256 and not digest.startswith(one.sha256):
        raise ValueError(
            f"{path} is damaged, or not what its name says: its SHA-256 begins with {digest[:8]}, "
            f"not {one.sha256}; remove it, and bring it from {one.url}"
        )
    return path


def name_of(node: Mapping[str, Any]) -> str:
    """The name in conf/detector of the detector that a configuration's node describes."""
    kind = str(node["_target_"]).rpartition(".")[2]
    for name, made in DETECTORS.items():
        own = getattr(made, "keywords", {}).get("kind")
        if getattr(made, "func", made).__name__ == kind and own == node.get("kind"):
            return name
    return kind


@cache
def _sha256(path: Path, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def patience() -> Iterator[None]:
    """torch.hub sets no timeout, so that a silent network would hold everything up."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def as_overrides(settings: dict[str, Any]) -> list[str]:
    """Settings as `detzoo train` takes them: key=value."""
    texts = {
        k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":"))
        for k, v in settings.items()
    }
    return [f"{key}={text}" for key, text in texts.items()]


def settings_for(path: Path, detector: str) -> dict[str, Any]:
    """As `Published.settings`, of a file in a publisher's layout; {} for one of detzoo's own.

    Raises ValueError for what is no file of weights.
    """
    state = load_state(path)
    one = published(detector)
    if is_torchvision(state):
        return one.settings if one else {}
    if not any(key.startswith(("hm.", "tl_heats.")) for key in state):
        return {}
    found = settings_of({k: v for k, v in state.items() if not UNUSED.fullmatch(k)})
    backbone = found.pop("backbone")
    del found["num_classes"]
    settings = {"resize": "letterbox", "resize.size": 512}
    settings |= {f"detector.{key}": value for key, value in found.items()}
    if isinstance(backbone, Hourglass):
        return settings | {"backbone": "hourglass"}
    return settings | {
        "backbone": "resnet50",
        "backbone.name": backbone.name,
        "backbone.mean": list(MEAN),
        "backbone.std": list(STD),
    }
