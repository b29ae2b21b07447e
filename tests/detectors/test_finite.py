"""Single-shot losses are finite from the first step, under bf16, for any image."""

from __future__ import annotations

import pytest
import torch

from detzoo.api import create_detector
from detzoo.nn import Backbone
from detzoo.types import Frame, Images, Target

SIZE = (64, 96)
SMALL = {
    "yolo": {"neck": "topdown", "head": "conv", "grid": None, "channels": 16},
    "yolov3": {"channels": 16, "convs": 1},
    "ssd": {"maps": 4, "extra_channels": 16, "unpadded": 0},
    "retinanet": {"channels": 16, "convs": 1},
}


def targets(generator: torch.Generator) -> list[Target]:
    """No box, a hundred boxes of all sizes, and slivers."""
    corners = torch.rand(100, 2, generator=generator) * torch.tensor([90.0, 60])
    sides = 1 + torch.rand(100, 2, generator=generator) ** 3 * 60
    many = torch.cat([corners, (corners + sides).minimum(torch.tensor([96.0, 64]))], 1)
    slivers = torch.tensor([[0, 0, 96, 0.01], [95.99, 0, 96, 64]])
    return [
        Target(boxes, torch.zeros(len(boxes)).long(), torch.zeros(len(boxes)).bool())
        for boxes in (torch.zeros(0, 4), many, slivers)
    ]


@pytest.mark.parametrize("name", SMALL)
def test_losses_are_finite_under_bf16_for_ten_seeds(name: str) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        backbone = Backbone("test_resnet")
        detector = create_detector(name, num_classes=3, backbone=backbone, **SMALL[name]).train()
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.rand(3, 3, *SIZE, generator=generator)
        images = Images(pixels, [Frame(i, SIZE, SIZE) for i in range(3)])
        with torch.autocast("cpu", torch.bfloat16):
            losses = detector(images, targets(generator))
        assert all(torch.isfinite(loss) for loss in losses.values()), (seed, losses)
        sum(losses.values()).backward()
        gradients = [p.grad for p in detector.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients), seed
