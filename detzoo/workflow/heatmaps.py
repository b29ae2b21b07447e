"""Heatmaps of point detectors, laid over the images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detzoo.data.resize import collate_images
from detzoo.detector import Detector
from detzoo.files import atomic, write_json
from detzoo.report.images.drawing import overlay_heatmap
from detzoo.report.images.photographs import choose, photograph
from detzoo.report.images.side_by_side import COUNT


@torch.no_grad()
def compute_heatmaps(detector: Detector, images: Sequence[np.ndarray]) -> list[dict[str, Tensor]]:
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


def write_overlay(image: np.ndarray, heat: Tensor, path: Path) -> None:
    """The image, greyed, with (h, w) `heat` over all of it; JPEG, written whole or not at all."""
    with atomic(path) as temporary:
        overlay_heatmap(Image.fromarray(image), heat.numpy()).save(temporary, "JPEG", quality=90)


def write_heatmaps(detector: Detector, data: Mapping[str, Any], path: Path) -> None:
    """Write heatmaps.json for the images that a report shows; nothing for other detectors.

    data: dataset.json. The file is a list of {"image_id", "name", "png"}: a grey PNG of 8 bits, in
    base64, that covers the whole image. A file of an earlier training is removed.
    """
    path.unlink(missing_ok=True)
    if type(detector).heatmaps is Detector.heatmaps:
        return
    rows = []
    for record in choose(data, COUNT):
        found = photograph(data, record)
        if isinstance(found, str):
            continue
        (maps,) = compute_heatmaps(detector, [np.asarray(found.image)])
        for name, heat in maps.items():
            png = io.BytesIO()
            Image.fromarray((255 * heat).round().byte().numpy()).save(png, "PNG")
            text = base64.b64encode(png.getvalue()).decode()
            rows.append({"image_id": record["id"], "name": name, "png": text})
    write_json(path, rows, indent=None)
