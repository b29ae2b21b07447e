"""How good a map is, in numbers whose right values are known for maps made by hand.

H and W are the padded image's sides; a map is (H, W), 0 or more, over the pixels that the network
sees. None is a number that does not exist (an empty map, an object as large as the image).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.explain.target import Asked, found_scores
from detzoo.explain.view import View, blurred

STEPS = 20  # of deletion, and of insertion
REACH = 2.0  # times the object's area: the number of pixels taken at most
BLUR = 0.05  # of the image's longer side: sigma of the blurred image that insertion starts from


@dataclass(frozen=True)
class Curve:
    """shares: (S,) pixels taken, in areas of the object, from 0 on. scores: (S,) over the score of
    the whole image. area: their mean, by trapezoids."""

    shares: np.ndarray
    scores: np.ndarray

    @property
    def area(self) -> float:
        return float(np.trapezoid(self.scores, self.shares) / self.shares[-1])


def deletion(
    detector: Detector, view: View, asked: Asked, heat: Tensor, without: Tensor | None = None
) -> Curve:
    """The score while the map's highest pixels go: a low curve is a good map.

    (1806.07421, with steps in areas of the object, so that small objects have as many steps.) The
    score is that of the best box of the class with an IoU above 0.5. without: (1, 3, H, W) the same
    image without the object, whose pixels take their place; the mean colour where it is not known.
    """
    empty = detector.mean.expand_as(view.pixels) if without is None else without
    return _curve(detector, view, asked, heat, first=empty, then=view.pixels)


def insertion(
    detector: Detector, view: View, asked: Asked, heat: Tensor, without: Tensor | None = None
) -> Curve:
    """The score while the map's highest pixels come into `without`, or into `blurred_image` where
    that is not known: high is good."""
    without = blurred_image(view) if without is None else without
    return _curve(detector, view, asked, heat, first=view.pixels, then=without)


def blurred_image(view: View) -> Tensor:
    """(1, 3, H, W), where insertion starts from."""
    return blurred(view.pixels, BLUR * max(view.frame.resized))


def _curve(
    detector: Detector, view: View, asked: Asked, heat: Tensor, *, first: Tensor, then: Tensor
) -> Curve:
    """The scores of images whose highest pixels are of `first`, and the others of `then`."""
    rank, real = _ranks(view, heat)
    x1, y1, x2, y2 = asked.box.tolist()
    area = max(1.0, (x2 - x1) * (y2 - y1))
    counts = np.unique(np.linspace(0, min(REACH * area, real), STEPS).round()).astype(int)
    variants = [torch.where(rank < count, first, then) for count in counts.tolist()]
    found = found_scores(detector, view, asked, torch.cat([*variants, view.pixels])).cpu().numpy()
    scores, whole = found[:-1], found[-1]
    return Curve(counts / area, scores / whole if whole > 0 else scores * 0)


def covered_scores(detector: Detector, view: View, asked: Asked, boxes: Tensor) -> list[float]:
    """(M, 4) boxes -> for each, the score with it covered by the mean colour over the whole one."""
    variants = view.pixels.repeat(len(boxes), 1, 1, 1)
    for pixels, box in zip(variants, boxes, strict=True):
        mask = torch.from_numpy(box_mask(tuple(pixels.shape[-2:]), box[None])) > 0
        pixels[:, mask] = detector.mean.view(3, 1)
    scores = found_scores(detector, view, asked, torch.cat([view.pixels, variants]))
    return (scores[1:] / scores[0].clamp(min=1e-9)).tolist()


def _ranks(view: View, heat: Tensor) -> tuple[Tensor, int]:
    """(H, W) int64, 0 for the highest pixel, padding last; and how many are no padding."""
    rows, columns = view.frame.resized
    inside = torch.full_like(heat, -torch.inf)
    inside[:rows, :columns] = heat[:rows, :columns]
    order = inside.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank.view_as(heat), rows * columns


def box_mask(shape: tuple[int, int], boxes: Tensor) -> np.ndarray:
    """(H, W) in [0, 1]: the share of each pixel that is in any of (M, 4) xyxy boxes."""
    height, width = shape
    mask = np.zeros(shape)
    for x1, y1, x2, y2 in boxes.tolist():
        rows = np.clip(np.arange(1, height + 1), y1, y2) - np.clip(np.arange(height), y1, y2)
        columns = np.clip(np.arange(1, width + 1), x1, x2) - np.clip(np.arange(width), x1, x2)
        mask = np.maximum(mask, rows[:, None] * columns[None])
    return mask


def energy(heat: np.ndarray, boxes: Tensor) -> float | None:
    """The share of the map in the boxes over their share of the image: 1 is chance.

    Score-CAM's energy-based pointing game (1910.01279, section 4.2), set over the box's area,
    without which large objects score well with any map.
    """
    share = energy_share(heat, boxes)
    area = float(box_mask(heat.shape, boxes).mean())
    return None if share is None or area <= 0 else share / area


def energy_share(heat: np.ndarray, boxes: Tensor) -> float | None:
    """The share of the map that is in the boxes, in [0, 1]."""
    whole = float(heat.sum())
    return float((heat * box_mask(heat.shape, boxes)).sum() / whole) if whole > 0 else None


def pointing(heat: np.ndarray, boxes: Tensor) -> bool | None:
    """Whether the map's highest pixel is in one of the boxes."""
    if not heat.max(initial=0) > 0:
        return None
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    return bool(box_mask(heat.shape, boxes)[peak] > 0.5)


def agreement(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's correlation of two maps of one shape, over cells of about a 32nd of a side."""
    cells = [_cells(heat) for heat in (first, second)]
    ranks = [_average_ranks(values) for values in cells]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _cells(heat: np.ndarray, side: int = 32) -> np.ndarray:
    rows = np.array_split(np.arange(heat.shape[0]), min(side, heat.shape[0]))
    columns = np.array_split(np.arange(heat.shape[1]), min(side, heat.shape[1]))
    thin = np.stack([heat[row].mean(0) for row in rows])
    return np.stack([thin[:, column].mean(1) for column in columns], 1).ravel()


def _average_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return ((last - counts + last - 1) / 2)[inverse]
