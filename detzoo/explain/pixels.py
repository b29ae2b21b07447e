"""Maps from the gradient of the score to the pixels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.explain.captum import captum
from detzoo.explain.relus import ruled_relus
from detzoo.explain.target import Asked, score_of
from detzoo.explain.view import View

SAMPLES = 16  # noisy copies; SmoothGrad's authors see little gain beyond 50
NOISE = 0.15  # of the range of the pixels, in their 10% to 20%


def scorer(detector: Detector, view: View, asked: Asked) -> Callable[[Tensor], Tensor]:
    """(N, 3, H, W) pixels -> (N,) scores, differentiable."""
    return lambda pixels: score_of(detector, view.variants(pixels), asked)


def saliency(detector: Detector, view: View, asked: Asked) -> Tensor:
    """(H, W): the largest slope over the channels (Simonyan, 1312.6034, section 3)."""
    attribution = captum("Saliency")(scorer(detector, view, asked))
    return _largest(attribution.attribute(view.pixels.detach().requires_grad_(), abs=True))


def smooth_grad(detector: Detector, view: View, asked: Asked, *, seed: int = 0) -> Tensor:
    """(H, W): saliency, averaged over noisy copies of the image (Smilkov, 1706.03825)."""
    tunnel = captum("NoiseTunnel")(captum("Saliency")(scorer(detector, view, asked)))
    with seeded(seed, view.pixels.device):
        slopes = tunnel.attribute(
            view.pixels.detach().requires_grad_(),
            nt_type="smoothgrad",
            nt_samples=SAMPLES,
            nt_samples_batch_size=4,
            stdevs=NOISE,
            abs=False,
        )
    return _largest(slopes)


def backpropagation(detector: Detector, view: View, asked: Asked, *, rule: str = "") -> Tensor:
    """(H, W): the slope of the score, through ReLUs by one of `relus.RULES` or by their own."""
    pixels = view.pixels.detach().requires_grad_()
    with torch.enable_grad(), ruled_relus(rule) if rule else nullcontext():
        score = scorer(detector, view, asked)(pixels).sum()
    (slope,) = torch.autograd.grad(score, pixels)
    return _largest(slope)


def _largest(slope: Tensor) -> Tensor:
    """(1, 3, H, W) -> (H, W)."""
    return slope.detach()[0].abs().amax(0)


class seeded:
    """A context in which torch's random numbers follow a seed; afterwards they continue as
    before."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        devices = [device] if device.type == "cuda" else []
        self.fork = torch.random.fork_rng(devices=devices)

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        self.fork.__exit__(*error)
