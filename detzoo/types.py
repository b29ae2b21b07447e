"""What flows between the parts of detzoo: images in, targets beside them, detections out.

Boxes are xyxy in continuous coordinates: pixel i covers [i, i + 1), so a width is x2 - x1 and a
horizontal flip is W - x. Labels are 0..K-1; there is no background label among them.

Shape letters: B images, H and W padded height and width, M boxes, N candidates, D detections,
P proposals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Where an image came from and how it was resized, so that boxes can be taken back.

    id: the image's id in its data set. original, resized: (height, width) in pixels, of the image
    on disk and of the image that the network sees, before padding, which is at the right and at the
    bottom and so moves no box.
    """

    id: int
    original: tuple[int, int]
    resized: tuple[int, int]


@dataclass(frozen=True)
class Images:
    """A batch as the network takes it.

    pixels: (B, 3, H, W) uint8 RGB, or float32 in [0, 1]; padded at the right and at the bottom.
    proposals: per image (P, 4) float32 xyxy in the pixels of `pixels`; R-CNN and Fast R-CNN alone
    read them.
    """

    pixels: Tensor
    frames: list[Frame]
    proposals: list[Tensor] | None = None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every image before padding."""
        return [frame.resized for frame in self.frames]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Images:
        proposals = self.proposals
        if proposals is not None:
            proposals = [p.to(device, non_blocking=non_blocking) for p in proposals]
        return Images(self.pixels.to(device, non_blocking=non_blocking), self.frames, proposals)


@dataclass(frozen=True)
class Target:
    """The truth about one image, in the pixels that the network sees.

    boxes: (M, 4) float32 xyxy, M may be 0. labels: (M,) int64 in [0, K). crowd: (M,) bool; a crowd
    or difficult box is never a positive and what it covers is never a negative.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Target:
        return Target(
            *(
                t.to(device, non_blocking=non_blocking)
                for t in (self.boxes, self.labels, self.crowd)
            )
        )

    @property
    def objects(self) -> tuple[Tensor, Tensor]:
        """Boxes and labels of what may be a positive: everything that is no crowd."""
        single = ~self.crowd
        return self.boxes[single], self.labels[single]


@dataclass(frozen=True)
class Candidates:
    """All that a detector proposes for a batch, N for every image, before any is selected.

    boxes: (B, N, 4) float32 xyxy, not clipped. scores: (B, N) float32 in [0, 1]; -1 where an image
    has fewer than N. labels: (B, N) int64 in [0, K). Boxes and scores are differentiable.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Detections:
    """What was found in one image.

    boxes: (D, 4) float32 xyxy, inside the unpadded image. scores: (D,) float32 in [0, 1],
    descending. labels: (D,) int64 in [0, K).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Detections:
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))
