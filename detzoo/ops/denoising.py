"""Denoising: true objects with noise, which a decoder learns to remove (DN-DETR, Li 2022,
arXiv:2203.01305). Shape letters: B images, M objects of an image, G groups, N queries.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(
    boxes: Tensor,
    labels: Tensor,
    *,
    groups: int,
    num_classes: int,
    box_noise: float,
    label_noise: float,
) -> tuple[Tensor, Tensor]:
    """(B, M, 4) centre and size, (B, M) -> both of (B, G M): G copies, each with its own noise.

    A centre moves by less than box_noise / 2 of a side, and a side is multiplied by 1 - box_noise
    to 1 + box_noise. A share `label_noise` of the labels is redrawn from all classes.
    """
    boxes, labels = boxes.repeat(1, groups, 1), labels.repeat(1, groups)
    draw = box_noise * (2 * torch.rand(boxes.shape, device=boxes.device) - 1)
    side = boxes[..., 2:]
    noised = torch.cat([boxes[..., :2] + draw[..., :2] * side / 2, side * (1 + draw[..., 2:])], -1)
    other = torch.randint(num_classes, labels.shape, device=labels.device)
    anew = torch.rand(labels.shape, device=labels.device) < label_noise
    return noised, torch.where(anew, other, labels)


def group_mask(real: Tensor, groups: int, queries: int) -> Tensor:
    """(B, 1, N + G M, N + G M) bool: which query (row) may attend to which (column).

    real: (B, M) bool, which of a group's places are objects; the others are visible to none. The N
    queries come first and see only one another, or they would see the truth; a group sees them and
    itself, but no other group's version of its objects.
    """
    index = torch.arange(1, groups + 1, device=real.device)[:, None].expand(-1, real.shape[1])
    group = torch.cat([index.new_zeros(queries), index.flatten()])
    sees = (group == group[:, None]) | (group == 0)
    seen = torch.cat([real.new_ones(len(real), queries), real.repeat(1, groups)], 1)
    return (sees & seen[:, None])[:, None]
