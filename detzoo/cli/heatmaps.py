"""Heatmaps of detectors that look for points, laid over the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from detzoo.data.image import collate_images
from detzoo.detector import Detector
from detzoo.files import atomic


@torch.no_grad()
def see(detector: Detector, images: Sequence[np.ndarray]) -> list[dict[str, Tensor]]:
    """Per image: name -> (h, w) float32 in [0, 1] on the CPU, a cell being a patch of the image.

    images: (H, W, 3) uint8 RGB. The detector is in eval mode. Raises ValueError for a detector that
    has no heatmaps.
    """
    resized = [detector.resize(image, index) for index, image in enumerate(images)]
    batch = collate_images(resized, stride=detector.stride)
    outputs = detector.network(batch.to(next(detector.parameters()).device))
    maps = detector.heatmaps(outputs)
    if not maps:
        raise ValueError(f"{type(detector).__name__} has no heatmaps; leave heatmaps=true out")
    height, width = batch.pixels.shape[2:]
    found = []
    for number, (rows, columns) in enumerate(batch.sizes):
        of_image = {}
        for name, heat in maps.items():
            h, w = heat.shape[1:]
            end = max(1, round(rows * h / height)), max(1, round(columns * w / width))
            of_image[name] = heat[number, : end[0], : end[1]].cpu()  # without the padding
        found.append(of_image)
    return found


def overlay(image: np.ndarray, heat: Tensor, path: Path) -> None:
    """The image, greyed, with (h, w) `heat` over all of it; JPEG, written whole or not at all."""
    size = image.shape[:2]
    heat = F.interpolate(heat[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    opacity = heat.clamp(0, 1).sqrt()[..., None].numpy()  # 0.1 is seen too
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    colour = 255 * matplotlib.colormaps["inferno"](heat.numpy())[..., :3]
    pixels = (grey * (1 - opacity) + colour * opacity).round().astype(np.uint8)
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, "JPEG", quality=90)
