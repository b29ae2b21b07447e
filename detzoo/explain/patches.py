"""Which images make a channel answer most, and where.

Shape letters: D channels of all levels of a layer side by side, k images that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from detzoo.explain.features import Maps
from detzoo.explain.receptive import Fields
from detzoo.explain.view import View


@dataclass(frozen=True)
class Peak:
    """A channel's highest cell in one image. image: its number; row: the crop's index, 0 for an
    image; cell: (row, column) on the map."""

    value: float
    image: int
    row: int
    cell: tuple[int, int]


@dataclass
class Peaks:
    """The `count` images with each channel's strongest response; one peak per image and channel."""

    count: int
    values: Tensor = field(default_factory=lambda: torch.zeros(0, 0))  # (k, D)
    places: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 4))  # image, row, y, x

    def add(self, image: int, maps: Maps) -> None:
        """Add the maps of one image; images must come in ascending order."""
        values, places = [], []
        for x in maps.levels:
            high, at = x.float().permute(1, 0, 2, 3).flatten(1).max(1)  # (C,)
            cells = x.shape[2] * x.shape[3]
            of = [
                torch.full_like(at, image),
                at // cells,
                at % cells // x.shape[3],
                at % x.shape[3],
            ]
            values.append(high)
            places.append(torch.stack(of, 1))
        new, where = torch.cat(values)[None].cpu(), torch.cat(places)[None].cpu()
        if not len(self.values):
            self.values, self.places = new, where
            return
        values_, places_ = torch.cat([self.values, new]), torch.cat([self.places, where])
        order = values_.argsort(stable=True, dim=0, descending=True)[: self.count]
        self.values = values_.gather(0, order)
        self.places = places_.gather(0, order[..., None].expand(-1, -1, 4))

    def of(self, dimension: int) -> list[Peak]:
        """A channel's peaks, the highest first."""
        found = zip(self.values[:, dimension].tolist(), self.places[:, dimension], strict=True)
        return [Peak(v, int(p[0]), int(p[1]), (int(p[2]), int(p[3]))) for v, p in found]


def patch_of(
    peak: Peak, fields: Fields, view: View, maps: Maps, crop: int | None = None
) -> tuple[float, float, float, float]:
    """xyxy in the image's own pixels: the receptive field of the peak's cell, inside the image.

    fields: of the map's rows and columns. crop: the side of the crops that go through the backbone,
    if maps are of crops.
    """
    (rows, columns), (y, x) = fields, peak.cell
    height, width = view.frame.resized
    if maps.crops is None:
        (y1, y2), (x1, x2) = rows.span(y, height), columns.span(x, width)
    else:
        left, top, right, bottom = maps.crops[peak.row].tolist()
        (y1, y2), (x1, x2) = rows.span(y, crop or 1), columns.span(x, crop or 1)
        y1, y2 = (top + v / (crop or 1) * (bottom - top) for v in (y1, y2))
        x1, x2 = (left + v / (crop or 1) * (right - left) for v in (x1, x2))
        y1, y2 = (min(max(v, 0.0), height) for v in (y1, y2))
        x1, x2 = (min(max(v, 0.0), width) for v in (x1, x2))
    up, across = view.frame.original[0] / height, view.frame.original[1] / width
    return x1 * across, y1 * up, x2 * across, y2 * up
