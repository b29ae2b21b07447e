"""Targets by hand, and what is compared with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detzoo.types import Detections, Target


def target(*objects: Sequence[float], crowd: bool = False) -> Target:
    """objects: (x1, y1, x2, y2, label) each; all are crowds, or none is."""
    return target_of(objects, [crowd] * len(objects))


def target_of(objects: Sequence[Sequence[float]], crowd: Sequence[bool] | None = None) -> Target:
    """objects: (x1, y1, x2, y2, label) each; crowd: of each, none by default."""
    rows = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    flags = torch.tensor(crowd or [False] * len(rows), dtype=torch.bool)
    return Target(rows[:, :4], rows[:, 4].long(), flags)


def listed(x: Target | Detections, which: Tensor | slice = slice(None)) -> list[list[float]]:
    """[label, x1, y1, x2, y2] of every one, in order."""
    return torch.cat([x.labels[which, None].float(), x.boxes[which]], 1).tolist()
