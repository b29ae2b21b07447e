"""The Python face: detectors by name, and trained ones from their run directories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detzoo.data import Proposer, collate_images
from detzoo.data.dataset import content_hash
from detzoo.detector import Detector
from detzoo.detectors import DETECTORS, FasterRCNN
from detzoo.imagefile import EXIF
from detzoo.nn import Backbone, Hourglass

if TYPE_CHECKING:
    from detzoo.workflow.verb import Settings


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


def settings(verb: str, *overrides: str) -> Settings:
    """The settings of `detzoo VERB OVERRIDES...`, plain values by name, for the verb's function.

    overrides: as on the command line: "detector=ssd", "recipe.images_seen=20000", or a path where
    the verb takes one. They are checked the same way: raises ValueError, with what exists, for an
    unknown verb, setting or value. Hydra composes them; its own state is left unchanged.
    """
    from detzoo.cli.compose import settings as compose  # Hydra is not needed for anything else

    return compose(verb, *overrides)


def load(run_directory: str | Path, device: torch.device | str = "cpu") -> Detector:
    """The trained detector of a run directory, in eval mode, with its resize, class names and exif.

    From a folder or pattern of several runs, the one that was best on val.

    Runs no code from the directory: classes are built only if detzoo allows them, weights are read
    with `weights_only=True`, and nothing is downloaded. Raises ValueError for a directory that is
    no run or whose training has not written a checkpoint.
    """
    from detzoo.config import build
    from detzoo.engine.checkpoint import read_weights
    from detzoo.engine.precision import prepare
    from detzoo.limits import check_numbers, outline
    from detzoo.run_config import FILE, read_run

    run = _run_of(Path(run_directory))
    file = run / FILE
    if not file.is_file():
        raise ValueError(f"{run} is no run directory: there is no config.yaml in it")
    if not (run / "checkpoint.pt").is_file():
        raise ValueError(
            f"{run} has no checkpoint.pt: it was not trained, or failed before the first"
        )
    settings = read_run(run, data=False)
    node = settings["detector"]
    check_numbers(node.get("proposer"), f"{file}: detector.proposer")
    # First without memory: a detector that does not fit the checkpoint may be of any size.
    shapes = outline({**node, "proposer": None} if "proposer" in node else node, file)
    weights = read_weights(shapes, run)
    detector = build(node, "detector", file)
    detector.load_state_dict(weights)
    detector.resize = build(settings["resize"], "resize", file)
    detector.class_names = tuple(settings["classes"])
    exif = (settings.get("data") or {}).get("exif")
    detector.exif = exif if exif in EXIF else "auto"
    return prepare(detector.eval(), device, channels_last=False, inference=True)


def _run_of(path: Path) -> Path:
    """The run itself, or the best of those that the path names."""
    from detzoo.run_config import FILE

    if (path / FILE).is_file() or (path / "checkpoint.pt").is_file():
        return path
    from detzoo.workflow.select import select, select_one

    try:
        select(path)
    except ValueError as error:
        raise ValueError(f"{path} is no run directory: there is no config.yaml in it") from error
    return select_one(str(path))


class RegionProposals(Proposer):
    """Proposals for R-CNN and Fast R-CNN from the first stage of a trained Faster R-CNN.

    run: its run directory. limit: the most boxes, both before and after its NMS. The images are
    resized as in that run. Raises ValueError for a path that is no run of a Faster R-CNN.
    """

    parallel = False  # torch has its threads

    def __init__(self, run: str | Path, limit: int = 2000) -> None:
        detector = load(run)
        if not isinstance(detector, FasterRCNN):
            raise ValueError(f"{run} holds a {type(detector).__name__}; regions need a FasterRCNN")
        detector.rpn.pre_nms = detector.rpn.post_nms = (limit, limit)
        self.detector, self.limit = detector, limit
        self.hash = content_hash(Path(run) / "checkpoint.pt")

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        resized, frame = self.detector.resize(image, 0)
        images = collate_images([(resized, frame)], self.detector.stride)
        _, _, (boxes,) = self.detector.first_stage(images, training=False)
        (height, width), (h, w) = frame.original, frame.resized
        limits = np.array([width, height] * 2, np.float32)
        scale = np.array([width / w, height / h] * 2, np.float32)
        return (boxes.numpy() * scale).clip(0, limits)

    def describe(self) -> dict[str, Any]:
        return {"kind": "rpn", "checkpoint": self.hash, "limit": self.limit}
