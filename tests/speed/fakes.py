"""A device, a clock and detectors whose every second is written down: answers are literal."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import nn

from detzoo.data.resize import Letterbox
from detzoo.detector import Detector
from detzoo.types import Detections

DECODE, PREPROCESS, LAUNCH, POSTPROCESS = 0.25, 0.5, 0.125, 1.0  # exact in binary


class FakeDevice:
    """Time advances only explicitly; launched work finishes later, as on a GPU."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_until = 0.0

    def clock(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def launch(self, seconds: float) -> None:
        self.busy_until = max(self.now, self.busy_until) + seconds

    def synchronize(self) -> None:
        self.now = max(self.now, self.busy_until)


class FakeDetector(Detector):
    """Keeps the device busy for `work(call, batch)` seconds and finds one box an image."""

    def __init__(self, device: FakeDevice, work: Callable[[int, int], float]) -> None:
        super().__init__(num_classes=1, stride=4)
        self.resize = Letterbox(8)
        self.weight = nn.Parameter(torch.zeros(3))
        self.fake, self.work = device, work
        self.postprocess = POSTPROCESS
        self.score_threshold, self.max_detections = 0.001, 100
        self.batches: list[int] = []  # the size of every batch that came
        self.seen: list[int] = []  # the grey value of the first image of every batch

    def network(self, images, targets=None):
        self.batches.append(len(images.pixels))
        self.seen.append(int(images.pixels[0, 0, 0, 0]))
        self.fake.spend(LAUNCH)
        self.fake.launch(self.work(len(self.batches) - 1, len(images.pixels)))

    def decode(self, outputs, sizes):
        self.fake.spend(self.postprocess)
        box = torch.tensor([[1.0, 1.0, 3.0, 2.0]])
        return [Detections(box, torch.ones(1), torch.zeros(1, dtype=torch.int64)) for _ in sizes]

    def losses(self, outputs, targets):
        raise AssertionError("timing asks for no losses")


def jpeg(height: int = 16, width: int = 32, grey: int = 0, orientation: int = 1) -> bytes:
    file, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = orientation
    image = Image.fromarray(np.full((height, width, 3), grey, np.uint8))
    image.save(file, "JPEG", exif=tags if orientation != 1 else b"")
    return file.getvalue()
