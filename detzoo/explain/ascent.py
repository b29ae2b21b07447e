"""Class visualisation: pixels that maximise a detector's score for a class (1312.6034, section
2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detzoo.detector import Detector, eval_mode
from detzoo.explain.target import candidates_of
from detzoo.explain.view import View, look
from detzoo.ops.precision import float32_as

STEPS = 96
RATE = 0.02  # the mean change of a pixel in the first step, in [0, 1]; it falls to a tenth
NOISE = 0.05  # deviation of the initial pixels, about the mean colour
JITTER = 4  # pixels by which the image is shifted before each step, at most
VARIATION = 0.5  # weight of total variation, the mean difference of neighbours
DISTANCE = 0.5  # weight of the mean squared distance from the mean colour
REGULARISERS = (
    f"total variation ({VARIATION}), squared distance from the mean colour ({DISTANCE}), shifts of "
    f"up to {JITTER} px"
)


@dataclass(frozen=True)
class ClassImage:
    """pixels: (H, W, 3) uint8. score: the best of the class in it; before: where it began."""

    pixels: np.ndarray
    score: float
    before: float


def class_image(
    detector: Detector, label: int, size: tuple[int, int], *, seed: int = 0, steps: int = STEPS
) -> ClassImage | None:
    """Pixels, from noise, of the highest score of a class; None where nothing begins to rise.

    size: (height, width) of the image before `detector.resize`. A detector that looks at proposals
    looks at one, of half the image's side. Ascends the logarithm of the class's best candidate,
    less the REGULARISERS. Deterministic by seed.
    """
    generator = torch.Generator().manual_seed(seed)
    with eval_mode(detector), float32_as(tf32=False):
        view = _blank(detector, size)
        noise = NOISE * torch.randn(view.pixels.shape, generator=generator)
        mean = detector.mean.expand_as(view.pixels)
        x = (mean + noise.to(mean.device)).clamp(0, 1)
        with torch.no_grad():
            before = _score(detector, view, x, label)
        if before is None:
            return None
        for step in range(steps):
            shift = torch.randint(-JITTER, JITTER + 1, (2,), generator=generator).tolist()
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                score = _score(detector, view, x.roll(shift, (2, 3)), label)
                if score is None:
                    continue
                gain = score.clamp(min=1e-12).log() - _penalty(x, mean)
            (slope,) = torch.autograd.grad(gain, x)
            rate = RATE * (1 - 0.9 * step / steps)
            x = (x + rate * slope / slope.abs().mean().clamp(min=1e-12)).clamp(0, 1)
        x = x.detach()
        with torch.no_grad():
            after = _score(detector, view, x, label)
    rows, columns = view.frame.resized
    pixels = (255 * x[0, :, :rows, :columns]).round().byte().permute(1, 2, 0).cpu().numpy()
    return ClassImage(pixels, 0.0 if after is None else float(after), float(before))


def _blank(detector: Detector, size: tuple[int, int]) -> View:
    height, width = size
    view = look(detector, np.full((height, width, 3), 127, np.uint8))
    if detector.proposer is None:
        return view
    rows, columns = view.frame.resized
    box = view.pixels.new_tensor([[columns / 4, rows / 4, 3 * columns / 4, 3 * rows / 4]])
    return View(replace(view.images, proposals=[box]))


def _score(detector: Detector, view: View, pixels: Tensor, label: int) -> Any:
    """The best candidate's score for the class; None without candidates."""
    found, _ = candidates_of(detector, view.variants(pixels))
    scores = found.scores[(found.labels == label) & (found.scores > 0)]
    return scores.max() if len(scores) else None


def _penalty(x: Tensor, mean: Tensor) -> Tensor:
    rows, columns = (x.diff(dim=dim).abs().mean() for dim in (2, 3))
    return VARIATION * (rows + columns) + DISTANCE * ((x - mean) ** 2).mean()
