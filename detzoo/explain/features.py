"""A detector's features of an object before its head: its maps inside the object's box.

Shape letters: M boxes of an image, N objects, Q queries, D dimensions of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from detzoo.detector import Detector, eval_mode
from detzoo.explain.layers import calls_of, layer_of
from detzoo.explain.view import View
from detzoo.ops.precision import float32_as

NEIGHBOURS = 5  # of a k-NN classifier
ROWS = 512  # queries whose distances are in memory at once


@dataclass(frozen=True)
class Maps:
    """levels: the layer's maps of one image, (1, C, h, w) each; or, with crops, one of (R, C, h, w)
    for equally many boxes. crops: (R, 4) xyxy in the network's pixels, None where maps are of the
    image.
    """

    levels: Sequence[Tensor]
    crops: Tensor | None

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [x.shape[1] for x in self.levels]


@torch.no_grad()
def maps_at(detector: Detector, view: View, boxes: Tensor, layer: str | None = None) -> Maps:
    """The layer's output for an image.

    boxes: (M, 4) in the network's pixels, which a detector that looks at proposals is given to look
    at. Raises ValueError as `layer_of`, and for a layer that gives no maps.
    """
    images = view.images
    if detector.proposer is not None:
        images = replace(images, proposals=[boxes])
    with eval_mode(detector), float32_as(tf32=False), calls_of(layer_of(detector, layer)) as calls:
        crops = detector.crops(detector.network(images))
    if not any(calls):
        raise ValueError(f"layer is {layer!r}, which gives no maps: (R, C, h, w)")
    if crops is None:
        return Maps([x[:1] for maps in calls for x in maps], None)
    # A chunk of a single crop has a blank one for company.
    each = [maps[-1][:1] if len(calls) == len(crops) else maps[-1] for maps in calls]
    return Maps([torch.cat(each)[: len(crops)]], crops)


def features_of(maps: Maps, view: View, boxes: Tensor) -> Tensor:
    """(M, D): the mean of every channel over each box, (M, 4), levels side by side; on the CPU."""
    if maps.crops is not None:
        return maps.levels[0].mean((2, 3)).cpu()
    height, width = view.pixels.shape[-2:]
    found = []
    for x in maps.levels:
        scale = boxes.new_tensor([x.shape[3] / width, x.shape[2] / height] * 2)
        pooled = roi_align(x.float(), [boxes.float() * scale], 1, aligned=True)  # (M, C, 1, 1)
        found.append(pooled[:, :, 0, 0])
    return torch.cat(found, 1).cpu()


def place_of(dimension: int, widths: Sequence[int]) -> tuple[int, int]:
    """(level, channel) of a dimension of a feature."""
    for level, width in enumerate(widths):
        if dimension < width:
            return level, dimension
        dimension -= width
    raise IndexError(f"no dimension {dimension} beyond {sum(widths)}")


def directions(values: Tensor, widths: Sequence[int]) -> Tensor:
    """(N, D) -> (N, D): each level's channels normalised to length 1, so that levels have equal
    weight.

    Distances are then cosine distances. Dividing channels by their deviations would be worse: a
    single object with a rarely active channel would be far from all others.
    """
    return torch.cat([F.normalize(part, dim=1) for part in values.split(list(widths), 1)], 1)


def nearest(train: Tensor, queries: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """(N, D), (Q, D) -> (Q, k) int64: which of `train` are nearest, the nearest first."""
    parts = [
        torch.cdist(part, train).topk(k, largest=False).indices for part in queries.split(ROWS)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, k, dtype=torch.int64)


def majority_vote(labels: Tensor) -> Tensor:
    """(Q, k) labels of neighbours, the nearest first -> (Q,): the most frequent; among equals the
    one that is met first."""
    same = labels[:, :, None] == labels[:, None]  # (Q, k, k)
    first = labels.gather(
        1, same.sum(2).argmax(1, keepdim=True)
    )  # argmax takes the first of equals
    return first[:, 0]


def silhouettes(values: Tensor, labels: Tensor) -> np.ndarray:
    """(N, D), (N,) -> (N,) in [-1, 1]: how much nearer each is to its class than to the next one.

    Rousseeuw, J. Comp. Appl. Math. 20 (1987). 0 of a class with one object; NaN of a single class.
    """
    kinds = labels.unique()
    if len(kinds) < 2:
        return np.full(len(values), np.nan)
    distances = torch.cdist(values.double(), values.double())
    member = (labels[:, None] == kinds).double()  # (N, K)
    sums, counts = distances @ member, member.sum(0)
    own = member.bool()
    inside = (sums * member).sum(1) / (counts @ member.T - 1).clamp(min=1)
    other = torch.where(own, torch.inf, sums / counts).amin(1)
    found = (other - inside) / torch.maximum(inside, other).clamp(min=1e-12)
    return torch.where((counts @ member.T) > 1, found, 0.0).numpy()


def principal_components(values: Tensor, count: int = 2) -> tuple[Tensor, np.ndarray]:
    """(N, D) -> (N, count) along the directions of the largest variance, and their shares of it.

    A direction's largest weight is positive, so that the same data gives the same picture.
    """
    centred = (values - values.mean(0)).double()
    variances, directions = torch.linalg.eigh(centred.T @ centred)
    order = variances.argsort(descending=True)[:count]
    chosen = directions[:, order]
    signs = chosen.gather(0, chosen.abs().argmax(0, keepdim=True)).sign()
    whole = float(variances.clamp(min=0).sum()) or 1.0
    return (centred @ (chosen * signs)).float(), (variances[order] / whole).numpy()


def tsne(values: Tensor, seed: int = 0) -> Tensor | None:
    """(N, D) -> (N, 2) by t-SNE (van der Maaten and Hinton, JMLR 9 (2008)), of up to 50 principal
    components; None where scikit-learn is not installed, and for fewer than five objects or all the
    same, which would crash it."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return None
    if len(values) < 5 or float(values.std(0).max()) < 1e-6:
        return None
    few, _ = principal_components(values, min(50, *values.shape))
    perplexity = min(30.0, (len(values) - 1) / 3)
    way = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return torch.from_numpy(way.fit_transform(few.numpy()))


def class_separation(values: Tensor, labels: Tensor) -> Tensor:
    """(N, D), (N,) -> (D,) in [0, 1]: the share of each dimension's variance that is between
    classes (eta squared)."""
    centred = values - values.mean(0)
    whole = (centred**2).sum(0)
    between = torch.zeros_like(whole)
    for kind in labels.unique():
        of = centred[labels == kind]
        between += len(of) * of.mean(0) ** 2
    return torch.where(whole > 1e-12, between / whole.clamp(min=1e-12), 0.0)
