"""The one interface of every detector: network(images) -> losses(outputs) | decode(outputs)."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detzoo.data.folders import images_in
from detzoo.data.image import Picture, load_picture
from detzoo.data.proposals import Grid, Proposer
from detzoo.data.resize import Letterbox, Resize, collate_images, resize_proposals, to_original
from detzoo.imagefile import Exif, ImageFile
from detzoo.ops import boxes as box_ops
from detzoo.ops.padding import inside
from detzoo.ops.precision import float32_as
from detzoo.ops.select import select
from detzoo.types import Candidates, Detections, Images, Target, to_cpu

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """A context in eval mode; afterwards every module has its own mode again."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def lone_values(module: nn.Module) -> Iterator[None]:
    """A context in which a batch norm in training mode uses its running statistics for one image on
    a map of one cell: a single value per channel has no variance (torch refuses it).
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]

    def choose(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        norm.training = inputs[0].numel() > inputs[0].shape[1]

    hooks = [norm.register_forward_pre_hook(choose) for norm in norms]
    try:
        yield
    finally:
        for norm, hook in zip(norms, hooks, strict=True):
            hook.remove()
            norm.training = True


class Detector(nn.Module, abc.ABC):
    """A detector as three public methods, the interface for the clock, the trainer and the reader.

    num_classes: K; labels are 0..K-1. stride: height and width of `images.pixels` are multiples of
    it. mean, std: of RGB in [0, 1], as the weights were trained. resize: how `predict` resizes an
    image for the network; training sets it to its own. proposer: for a detector with
    needs_proposals, what proposes its regions; else None.

    Children named `backbone`, `neck`, `rpn` and `head` are timed apart by forward hooks.

    score_threshold, nms_threshold (None: no NMS), max_detections: what `decode` selects by, set by
    every detector that has `candidates`.
    """

    needs_proposals = False
    fixed_shapes = True  # convolution inputs have one shape if the images have
    masks_padding = False  # the network needs the size of each image, which pixels do not show
    score_threshold: float
    nms_threshold: float | None
    max_detections: int

    def __init__(
        self,
        *,
        num_classes: int,
        stride: int,
        backbone: nn.Module | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        proposer: Proposer | None = None,
    ) -> None:
        """backbone: becomes the child of that name, and its mean and std the detector's."""
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; a detector needs at least one class")
        self.num_classes = num_classes
        self.stride = stride
        self.resize: Resize = Letterbox(512)
        self.proposer = (proposer or Grid()) if self.needs_proposals else None
        self.class_names: tuple[str, ...] | None = None
        self.exif: Exif = "auto"  # orientation of files without a data set that defines it
        if backbone is not None:
            self.backbone = backbone
            mean, std = backbone.mean, backbone.std
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, images: Images, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """The losses in training mode; otherwise the detections, which know nothing of `targets`.

        Raises ValueError in training mode without targets.
        """
        if not self.training:
            return self.decode(self.network(images), images.sizes)
        if targets is None:
            raise ValueError(
                f"{type(self).__name__} is in training mode, where it gives losses, and got no "
                "targets; pass them, or call eval() for detections"
            )
        with lone_values(self) if len(images.pixels) == 1 else nullcontext():
            outputs = self.network(images, targets)
        return self.losses(outputs, targets)

    @abc.abstractmethod
    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Any:
        """The detector's own NamedTuple of raw outputs.

        RoIs are sampled when `targets` is given, not by `self.training`, so that a validation loss
        needs no training mode.
        """

    @abc.abstractmethod
    def losses(self, outputs: Any, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Weighted, normalised scalars, float32; the loss that is minimised is their sum."""

    def candidates(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> Candidates:
        """Scored boxes that `decode` selects from, differentiable; sizes as there."""
        name = type(self).__name__
        raise NotImplementedError(f"{name} has neither `candidates` nor a `decode` of its own")

    def rescore(self, candidates: Candidates) -> Candidates:
        """Rescore clipped candidates before NMS; CornerNet's soft NMS overrides it."""
        return candidates

    @torch.no_grad()
    def decode(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detections inside the unpadded images; sizes are (height, width), `images.sizes`."""
        found = self.candidates(outputs, sizes)
        found = self.rescore(replace(found, boxes=box_ops.clip(found.boxes, sizes)))
        return select(
            found,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            max_detections=self.max_detections,
        )

    def heatmaps(self, outputs: Any) -> dict[str, Tensor]:
        """Maps to lay over the images: name -> (B, h, w) in [0, 1]; a cell is one or more pixels.

        For a point-based detector, the most likely class's probability at every place; empty for
        all others.
        """
        return {}

    def crops(self, outputs: Any) -> Tensor | None:
        """The crops of the backbone's maps, (R, 4) xyxy, for a detector that sends crops through
        it.

        None if a map is of the whole image, as for all but R-CNN.
        """
        return None

    def check_trainable(self) -> None:
        """Raise ValueError where a frozen part is randomly initialised.

        A frozen norm without statistics neither normalises nor learns to, and frozen stages with
        random weights are useless; the training would learn little, without an error.
        """
        backbone = getattr(self, "backbone", None)
        if getattr(backbone, "frozen_stages", None) is not None and not backbone.pretrained:
            raise ValueError(
                f"backbone.frozen_stages is {backbone.frozen_stages}, but the backbone's weights "
                "are random, which is nothing to keep: give start=imagenet, start=coco, start=FILE "
                "or start=RUN, or backbone.weights=FILE"
            )
        for name, module in self.named_modules():
            frozen = "FrozenBatchNorm" in type(module).__name__
            if frozen and not module.running_mean.any() and bool((module.running_var == 1).all()):
                raise ValueError(
                    f"{name} is a frozen batch norm without statistics: backbone.norm=frozen_bn "
                    "needs backbone.pretrained=true or backbone.weights=FILE; from scratch use "
                    "norm=bn or gn"
                )

    def normalise(self, images: Images) -> Tensor:
        """(B, 3, H, W) float32: mean 0, standard deviation 1, and exactly 0 in the padding.

        The padding is 0 after normalisation, not before it, so that it is the mean colour and makes
        no edge; torchvision's detectors do the same.
        """
        pixels = images.pixels
        scale = 1 / 255 if pixels.dtype == torch.uint8 else 1.0
        x = (pixels.float() * scale - self.mean) / self.std
        if (mask := inside(images.sizes, x.shape[-2:], x.device)) is not None:
            x = x * mask[:, None]
        return x

    def picture_of(self, source: Any, resize: Resize | None = None) -> Picture:
        """An image decoded at the resolution that `resize` (or the detector's own) needs.

        source and errors are those of `load_image`. A detector that proposes its own regions looks
        for them in the whole image.
        """
        resize = resize or self.resize if self.proposer is None else None
        return load_picture(self._turned(source), resize)

    def _turned(self, source: Any) -> Any:
        """A plain file with its orientation; anything else unchanged."""
        bare = isinstance(source, str | Path | bytes) and self.exif != "auto"
        return ImageFile(source, exif=self.exif) if bare else source

    def proposals_of(self, pictures: Sequence[Picture]) -> list[Tensor] | None:
        """Per picture (P, 4) proposals in its pixels; None for a detector without a proposer."""
        if self.proposer is None:
            return None
        return [torch.from_numpy(self.proposer(picture.pixels)) for picture in pictures]

    def predict(
        self, images: Any, *, batch_size: int = 8, score_threshold: float = 0.05
    ) -> Detections | list[Detections]:
        """Detect in one image, a list of images, or the images of a folder; boxes in its pixels.

        images: a file (an ImageFile if a data set defines its orientation), a PIL image or an (H,
        W, 3) uint8 RGB array for Detections of it; several of these, or a folder's path, for a list
        of Detections (a folder's are sorted by name). Each has class names and its image. A file is
        turned according to `exif`.

        In float32, which on a GPU is not TF32 here. Every module's mode, training or not, is
        restored. Raises ValueError, which names the image, for a path that is no image, a folder
        without images and an array of another form, and TypeError for any other object.
        """
        if isinstance(images, str | Path) and Path(images).is_dir():
            if not (found := images_in(images)):
                raise ValueError(f"there is no image in the folder {images}")
            images = found
        if isinstance(images, str | Path | ImageFile | np.ndarray | Image):
            return self._predict([images], batch_size, score_threshold)[0]
        if not isinstance(images, Sequence):
            raise TypeError(f"predict takes images, or a list of them, not {type(images).__name__}")
        return self._predict(images, batch_size, score_threshold)

    @torch.no_grad()
    def _predict(
        self, images: Sequence[Any], batch_size: int, score_threshold: float
    ) -> list[Detections]:
        device = next(self.parameters()).device
        found: list[Detections] = []
        with eval_mode(self), float32_as(tf32=False):
            for start in range(0, len(images), batch_size):
                sources = [self._turned(image) for image in images[start : start + batch_size]]
                pictures = [self.picture_of(image) for image in sources]
                resized = [self.resize(picture, i) for i, picture in enumerate(pictures, start)]
                proposals = self.proposals_of(pictures)
                batch = collate_images(resized, self.stride, resize_proposals(proposals, resized))
                of_batch = to_cpu(self(batch.to(device)))
                for detections, frame, source in zip(of_batch, batch.frames, sources, strict=True):
                    kept = detections[detections.scores >= score_threshold]
                    kept = replace(kept, class_names=self.class_names, image=source)
                    found.append(to_original(kept, frame))
        return found
