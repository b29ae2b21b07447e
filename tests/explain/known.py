"""A detector whose answer is known pixel by pixel: red inside its boxes, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detzoo.data import Letterbox
from detzoo.detector import Detector
from detzoo.explain import METHODS
from detzoo.types import Candidates, Images, Target

SIDE = 32
EVERYWHERE = [m for m in METHODS if m != "cam"]  # what needs no head with global pooling


class Outputs(NamedTuple):
    scores: Tensor  # (B, 2)


class RedInBox(Detector):
    """Two boxes of class 0 and 1; each one's score is the mean red inside it.

    shortcut: also of the pixels in the top left corner, of 4 x 4, for the first of them.
    """

    def __init__(self, shortcut: bool = False) -> None:
        super().__init__(num_classes=2, stride=4, mean=(0.0,) * 3, std=(1.0,) * 3)
        self.neck = nn.Conv2d(3, 3, 1, bias=False)
        self.neck.weight.data = torch.eye(3)[..., None, None]
        self.boxes = torch.tensor([[8.0, 8, 16, 16], [20, 4, 28, 12]])
        self.score_threshold, self.nms_threshold, self.max_detections = 0.01, 0.5, 10
        self.resize = Letterbox(SIDE)
        self.shortcut = shortcut

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        red = self.neck(self.normalise(images)).relu()[:, 0]
        scores = torch.stack([red[:, 8:16, 8:16].mean((1, 2)), red[:, 4:12, 20:28].mean((1, 2))], 1)
        if self.shortcut:
            corner = red[:, :4, :4].mean((1, 2))
            scores = torch.stack([(scores[:, 0] + 3 * corner) / 4, scores[:, 1]], 1)
        return Outputs(scores)

    def losses(self, outputs: Any, targets: Sequence[Target]) -> dict[str, Tensor]:
        return {"none": outputs.scores.sum() * 0}

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        count = len(sizes)
        labels = torch.tensor([0, 1]).expand(count, -1)
        return Candidates(self.boxes.expand(count, -1, -1), outputs.scores, labels)


def picture(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """(height, width, 3) uint8: red objects on grey, at the places of the detector's boxes."""
    image = np.full((SIDE, SIDE, 3), 60, np.uint8)
    image[8:16, 8:16] = (230, 20, 20)
    image[4:12, 20:28] = (200, 20, 20)
    rows = np.arange(height) * SIDE // height
    columns = np.arange(width) * SIDE // width
    return image[rows][:, columns]
