"""The images in which channels of a layer respond most strongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from detzoo.data import Dataset, load_image
from detzoo.detector import Detector
from detzoo.explain.features import maps_at, place_of
from detzoo.explain.maps import paste
from detzoo.explain.patches import Peak, Peaks, patch_of
from detzoo.explain.receptive import receptive_fields
from detzoo.explain.view import look, scaled
from detzoo.report.page.features import Channel, Patch

CHANNELS, PEAKS = 3, 4  # shown of a detector; images of each


def channels(
    detector: Detector,
    dataset: Dataset,
    peaks: Peaks,
    widths: Sequence[int],
    score: Tensor,
    layer: str | None,
    channel: int | None,
) -> list[Channel]:
    """The CHANNELS of the highest score, or `channel` of every level, with their PEAKS.

    peaks: of all channels over the data set's images. score: (D,). Raises ValueError for a channel
    that no level has.
    """
    if channel is None:
        chosen = score.argsort(descending=True, stable=True)[:CHANNELS].tolist()
    else:
        starts = np.cumsum([0, *widths[:-1]])
        chosen = [
            int(start) + channel
            for start, width in zip(starts, widths, strict=True)
            if 0 <= channel < width
        ]
        if not chosen:
            raise ValueError(f"channel is {channel}; the layer's levels have {list(widths)}")
    found = []
    for dimension in chosen:
        level, number = place_of(dimension, widths)
        title = f"level {level}, channel {number}: {100 * float(score[dimension]):.0f}% of its "
        title += "variance lies between classes"
        patches = [
            _patch(detector, dataset, peak, level, number, layer) for peak in peaks.of(dimension)
        ]
        found.append(Channel(title, patches))
    return found


def _patch(
    detector: Detector, dataset: Dataset, peak: Peak, level: int, channel: int, layer: str | None
) -> Patch:
    sample = dataset.samples[peak.image]
    pixels = load_image(sample.image)
    view = look(detector, pixels)
    boxes = view.boxes(sample.boxes[~sample.crowd])
    maps = maps_at(detector, view, boxes, layer)
    part = maps.levels[level][peak.row, channel].float().clamp(min=0)
    if maps.crops is None:
        heat = part
    else:
        heat = view.pixels.new_zeros(view.pixels.shape[-2:])
        paste(heat, part, maps.crops[peak.row])
    fields = receptive_fields(detector, view.images, layer)
    box = patch_of(peak, fields[level if maps.crops is None else -1], view, maps, _crop(detector))
    return Patch(Image.fromarray(pixels), box, scaled(view.in_original(heat)), peak.value)


def _crop(detector: Detector) -> int | None:
    """The side of the crops that a detector sends through its backbone."""
    return getattr(detector, "crop", None)
