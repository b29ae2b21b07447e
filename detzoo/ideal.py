"""A detector's outputs with a part of them replaced by the truth, for `detzoo oracle`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.detectors.centernet import CenterNet
from detzoo.detectors.cornernet import CornerNet
from detzoo.types import Target


class Ideal(NamedTuple):
    """parts: of the outputs, in the order of the papers' tables. replace: see `with_truth`."""

    parts: tuple[str, ...]
    replace: Callable[[Any, Any, Sequence[Target], Sequence[str]], Any]


def parts_of(detector: Detector) -> tuple[str, ...]:
    """The replaceable parts of this detector's outputs; empty unless it is point-based."""
    return next((ideal.parts for kind, ideal in IDEALS.items() if isinstance(detector, kind)), ())


@torch.no_grad()
def with_truth(
    detector: Detector, outputs: Any, targets: Sequence[Target], parts: Sequence[str]
) -> Any:
    """The outputs with these parts as a perfect network would have them; crowds are left alone."""
    (ideal,) = (ideal for kind, ideal in IDEALS.items() if isinstance(detector, kind))
    return ideal.replace(detector, outputs, targets, parts)


def _centernet(
    detector: CenterNet, outputs: Any, targets: Sequence[Target], parts: Sequence[str]
) -> Any:
    truth = detector.assign(targets, outputs.heatmap.shape[-2:])
    heat, size, offset = (x.float().clone() for x in outputs)
    n = truth.weight > 0
    at = (truth.image[n], slice(None), slice(None), truth.cell[n, 1], truth.cell[n, 0])
    if "heatmap" in parts:
        heat = truth.heatmap.logit(1e-6)
    if "size" in parts:
        size.unflatten(1, (-1, 2))[at] = truth.size[n, None]
    if "offset" in parts:
        offset[:, None][at] = truth.offset[n, None]
    return type(outputs)(heat, size, offset)


def _cornernet(
    detector: CornerNet, outputs: Any, targets: Sequence[Target], parts: Sequence[str]
) -> Any:
    """True embeddings are a number per object, one and the same for objects that have a corner's
    cell in common, and agree nowhere else.
    """
    truth = detector.assign(targets, outputs.heatmap.shape[-2:])
    heat, embedding, offset = (x.float().clone() for x in outputs)
    n = truth.weight > 0
    which = torch.arange(2, device=heat.device)
    at = (truth.image[n, None], which, slice(None), truth.cell[n, :, 1], truth.cell[n, :, 0])
    if "heatmap" in parts:
        heat = truth.heatmap.logit(1e-6)
    if "embedding" in parts:
        embedding[:, 0], embedding[:, 1] = -1e6, 1e6
        embedding[at] = _tags(truth.image[n], truth.cell[n])[:, None, None]
    if "offset" in parts:
        offset[at] = truth.offset[n]
    return type(outputs)(heat, embedding, offset)


def _tags(image: Tensor, cell: Tensor) -> Tensor:
    """(N,), (N, 2, 2) -> (N,) float32: a number per object, shared by those that share a cell."""
    corner = torch.arange(2, device=cell.device)[None, :, None].expand(len(cell), 2, 1)
    place = torch.cat([image[:, None, None].expand_as(corner), corner, cell], 2)  # (N, 2, 4)
    places, group = place.flatten(0, 1).unique(dim=0, return_inverse=True)
    group, tag = group.view(-1, 2), torch.arange(len(image), device=image.device).float()
    for _ in range(len(image)):  # until the least of every chain has gone along it
        least = tag.new_full((len(places),), torch.inf)
        least.scatter_reduce_(0, group.flatten(), tag.repeat_interleave(2), "amin")
        before, tag = tag, least[group].amin(1)
        if torch.equal(before, tag):
            break
    return tag


IDEALS: dict[type[Detector], Ideal] = {
    CenterNet: Ideal(("heatmap", "offset", "size"), _centernet),
    CornerNet: Ideal(("heatmap", "offset", "embedding"), _cornernet),
}
