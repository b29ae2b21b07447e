"""One pass from encoded bytes to boxes in original pixels, with a time stamp between its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from detzoo.data.image import Picture
from detzoo.data.resize import Resize, collate_images, resize_proposals, to_original
from detzoo.detector import Detector
from detzoo.engine.precision import autocast, transfer
from detzoo.imagefile import ImageFile
from detzoo.types import Detections, Images, to_cpu

STAGES = ("decode", "proposals", "preprocess", "transfer", "network", "postprocess", "restore")

Clock = Callable[[], float]
T = TypeVar("T")


class TimingError(RuntimeError):
    """A detector failed while it was timed; `name` says which, so that the others can continue."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"timing {name} failed: {type(error).__name__}: {error}")
        self.name = name


class Pass(NamedTuple):
    """seconds: one for each of STAGES. shape: (B, 3, H, W) of what the network saw.

    proposals: regions that a second stage looked at, of all images; None for one-stage detectors.
    """

    seconds: tuple[float, ...]
    shape: tuple[int, ...]
    detections: list[Detections]
    proposals: int | None = None

    @property
    def network(self) -> float:
        return self.seconds[STAGES.index("network")]

    @property
    def end_to_end(self) -> float:
        return sum(self.seconds)


@dataclass(frozen=True)
class Pipeline:
    """A detector with all steps from a file's bytes to boxes in its pixels.

    clock: gives seconds. synchronize: returns when the device has finished its queued work.
    """

    name: str
    detector: Detector
    resize: Resize
    device: torch.device
    precision: str
    channels_last: bool = False
    clock: Clock = time.perf_counter
    synchronize: Callable[[], None] = lambda: None

    def __call__(self, encoded: Sequence[ImageFile]) -> Pass:
        """Detect in a batch of encoded images.

        Raises TimingError when the detector fails; running out of memory passes as it is, since a
        sweep over batch sizes goes up to there.
        """
        try:
            return self._run(encoded)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise TimingError(self.name, error) from error

    @torch.no_grad()
    def _run(self, encoded: Sequence[ImageFile]) -> Pass:
        # A device works asynchronously. Waiting for it before the first stamp keeps earlier work
        # out of `decode`; waiting before each later one charges work to the stage that launched it.
        # One stamp ends a stage and starts the next: the stages add up to the whole.
        stamps: list[float] = []

        def stamp() -> None:
            self.synchronize()
            stamps.append(self.clock())

        stamp()
        pictures = [self.detector.picture_of(data, self.resize) for data in encoded]
        stamp()
        proposals = self.detector.proposals_of(pictures)
        stamp()
        images = self.collate(pictures, proposals)
        stamp()
        images = transfer(images, self.device, self.channels_last)
        stamp()
        with autocast(self.device, self.precision):
            outputs = self.detector.network(images)
        stamp()
        with autocast(self.device, self.precision):
            found = self.detector.decode(outputs, images.sizes)
        stamp()
        found = [to_original(d, f) for d, f in zip(to_cpu(found), images.frames, strict=True)]
        stamp()
        seconds = tuple(end - begin for begin, end in pairwise(stamps))
        regions = getattr(outputs, "rois", None)
        regions = None if regions is None else sum(map(len, regions))
        return Pass(seconds, tuple(images.pixels.shape), found, regions)

    def collate(
        self,
        images: Sequence[np.ndarray | Picture],
        proposals: list[Tensor] | None = None,
    ) -> Images:
        """Pictures or (H, W, 3) uint8 RGB arrays -> the resized and padded batch, on the CPU."""
        resized = [self.resize(image, index) for index, image in enumerate(images)]
        proposals = resize_proposals(proposals, resized)
        return collate_images(resized, self.detector.stride, proposals)


def spaced(paths: Sequence[T], most: int) -> list[T]:
    """`paths`, or `most` of them at even distances: the same ones at every call."""
    if len(paths) <= most:
        return list(paths)
    return [paths[i * len(paths) // most] for i in range(most)]


def out_of_memory(error: Exception) -> bool:
    # A CPU allocation that fails is a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def synchronizer(device: torch.device) -> Callable[[], None]:
    """The function that waits for `device` to finish; the CPU works synchronously."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None
