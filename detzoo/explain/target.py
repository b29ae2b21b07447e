"""What is explained: the score of one detection, as a function of the image's pixels.

Shape letters: B variants of one image, N candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.explain.view import View
from detzoo.ops.boxes import clip, iou
from detzoo.types import Candidates, Images

SAME = 0.5  # IoU from which a candidate is of the explained object


@dataclass(frozen=True)
class Asked:
    """A detection whose score is explained. box: (4,) xyxy in the network's pixels."""

    box: Tensor
    label: int


def candidates_of(detector: Detector, images: Images) -> tuple[Candidates, object]:
    """Candidates clipped as `decode` clips them, before anything is selected, and the outputs."""
    outputs = detector.network(images)
    found = detector.candidates(outputs, images.sizes)
    boxes = clip(found.boxes.float(), images.sizes)
    return Candidates(boxes, found.scores.float(), found.labels), outputs


def similarity(found: Candidates, asked: Asked) -> Tensor:
    """(B, N): each candidate's IoU with the given box; -1 for another label and for padding.

    Without gradient: it only selects the candidate.
    """
    with torch.no_grad():
        shape = found.scores.shape
        overlap = iou(found.boxes.detach().flatten(0, 1), asked.box[None])[:, 0]
        counts = (found.labels == asked.label) & (found.scores > 0)
        return torch.where(counts, overlap.view(shape), -1.0)


def score_of(detector: Detector, images: Images, asked: Asked) -> Tensor:
    """(B,) the score of the candidate nearest to the given detection, differentiable.

    Among candidates of its label the one of the highest IoU, and among equals the best scored: for
    a detection that is the candidate that survived NMS.
    """
    found, _ = candidates_of(detector, images)
    return found.scores.gather(1, nearest(found, asked)[:, None])[:, 0]


def nearest(found: Candidates, asked: Asked) -> Tensor:
    """(B,) int64, see `score_of`."""
    alike = similarity(found, asked)
    best = alike.amax(1, keepdim=True)
    return torch.where(alike >= best - 1e-4, found.scores.detach(), -1.0).argmax(1)


def check_asked(detector: Detector, view: View, asked: Asked) -> float:
    """The given detection's score. ValueError where the detector finds no such object."""
    with torch.no_grad():
        found, _ = candidates_of(detector, view.images)
        index = nearest(found, asked)
        if similarity(found, asked)[0, index[0]] < SAME:
            box = ", ".join(f"{value:.0f}" for value in asked.box.tolist())
            raise ValueError(
                f"{type(detector).__name__} proposes no box of class {asked.label} near "
                f"({box}) in the network's pixels; ask for one of its own detections"
            )
        return float(found.scores[0, index[0]])


@torch.no_grad()
def found_scores(
    detector: Detector, view: View, asked: Asked, pixels: Tensor, batch_size: int = 8
) -> Tensor:
    """(N, 3, H, W) variants -> (N,): the best score of the given class at IoU > 0.5, 0 if none."""
    scores = []
    for part in pixels.split(batch_size):
        found, _ = candidates_of(detector, view.variants(part))
        same = similarity(found, asked) > SAME
        scores.append(torch.where(same, found.scores, 0.0).amax(1))
    return torch.cat(scores)


@torch.no_grad()
def weighted_scores(
    detector: Detector, view: View, asked: Asked, batches: Iterator[Tensor]
) -> Tensor:
    """Batches of variants -> (N,): the best product of a candidate's score and its IoU (D-RISE)."""
    scores = []
    for part in batches:
        found, _ = candidates_of(detector, view.variants(part))
        scores.append((found.scores * similarity(found, asked)).amax(1).clamp(min=0))
    return torch.cat(scores)
