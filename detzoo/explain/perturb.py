"""Maps from the change of the score when parts of the image are covered, without gradients.

H and W are the padded image's sides in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detzoo.detector import Detector
from detzoo.explain.captum import captum
from detzoo.explain.target import Asked, found_scores, weighted_scores
from detzoo.explain.view import View

MOST_WINDOWS = 16  # of occlusion, along a side of the image
MASKS = 256  # of D-RISE; its paper has 5000
GRID = 16  # cells of a mask along a side (section 4.1)
KEPT = 0.5  # of the cells, on average
BATCH = 8


def window_of(asked: Asked, height: int, width: int) -> tuple[int, int]:
    """(side, step) of the square that is moved over the image: half of the object's side, moved by
    half of itself, but no smaller than what takes MOST_WINDOWS steps along the image."""
    x1, y1, x2, y2 = asked.box.tolist()
    half = max(1.0, ((x2 - x1) * (y2 - y1)) ** 0.5 / 2)
    step = max(round(half / 2), -(-max(height, width) // MOST_WINDOWS))
    return min(2 * step, height, width), step


def occlusion(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): how much score is lost when a square of the mean colour is there (1311.2901)."""
    height, width = view.pixels.shape[-2:]
    side, step = window_of(asked, height, width)
    with torch.no_grad():
        lost = captum("Occlusion")(
            lambda pixels: found_scores(detector, view, asked, pixels, BATCH)
        ).attribute(
            view.pixels,
            sliding_window_shapes=(3, side, side),
            strides=(3, step, step),
            baselines=detector.mean.expand_as(view.pixels),
            perturbations_per_eval=BATCH,
        )
    return lost[0].mean(0).clamp(min=0)


def d_rise(
    detector: Detector, view: View, asked: Asked, *, seed: int = 0, masks: int = MASKS
) -> Tensor:
    """(H, W): the mean score when a pixel is visible, minus the overall mean (2006.03204).

    The mean over random masks that show the pixel, less the mean over all: without that everything
    would be warm.

    The weight is the best product of IoU and the class's score among all candidates: our
    candidates have one class each, so the paper's cosine of class vectors is that score. It costs
    `masks` forward passes.
    """
    height, width = view.pixels.shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    drawn = [_mask(height, width, generator) for _ in range(masks)]
    device = view.pixels.device

    def covered():
        for start in range(0, masks, BATCH):
            mask = torch.stack(drawn[start : start + BATCH]).to(device)[:, None]
            yield view.pixels * mask + detector.mean * (1 - mask)

    weights = weighted_scores(detector, view, asked, covered())
    masks_of = torch.stack(drawn).to(device)  # (masks, H, W)
    heat = (weights[:, None, None] * masks_of).sum(0) / masks_of.sum(0).clamp(min=1e-6)
    return (heat - weights.mean()).clamp(min=0)


def _mask(height: int, width: int, generator: torch.Generator) -> Tensor:
    """(H, W) in [0, 1]: a random grid, enlarged smoothly and shifted by less than a cell."""
    cells = (torch.rand(1, 1, GRID, GRID, generator=generator) < KEPT).float()
    rows, columns = -(-height // GRID), -(-width // GRID)  # pixels of a cell
    size = ((GRID + 1) * rows, (GRID + 1) * columns)
    whole = F.interpolate(cells, size, mode="bilinear")[0, 0]
    top = int(torch.randint(rows, (), generator=generator))
    left = int(torch.randint(columns, (), generator=generator))
    return whole[top : top + height, left : left + width]
