"""One small image is a batch: maps of one cell, which have no variance for batch norm."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from composed import CONFIGS, described
from detzoo import config, detectors
from detzoo.nn.norms import GroupNorm
from detzoo.types import Frame, Images, Target

SMALL = {"channels": 32, "head_channels": 16, "upsample_channels": 16}


def make(name: str, norm: str, **settings):
    """torchvision's heads have 32 groups, which need more channels than that."""
    node = described(name)
    node["backbone"] = {"_target_": "detzoo.nn.Backbone", "name": "test_resnet", "norm": norm}
    known = inspect.signature(getattr(detectors, node["_target_"].split(".")[-1])).parameters
    if name.endswith("rcnn"):
        node["head_width"] = 32
    node |= {k: v for k, v in (SMALL | settings).items() if k in known}
    return config.build(node, num_classes=3)


def losses(detector, side: int):
    generator = torch.Generator().manual_seed(0)
    padded = -(-side // detector.stride) * detector.stride
    pixels = torch.randint(0, 256, (1, 3, padded, padded), dtype=torch.uint8, generator=generator)
    box = torch.tensor([[0.0, 0, side, side / 2]])
    images = Images(pixels, [Frame(0, (side, side), (side, side))], [box])
    target = Target(box, torch.tensor([1]), torch.tensor([False]))
    return detector(images, [target]), images


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name in CONFIGS for norm in ("bn", "gn") if norm == "bn" or "/" not in name],
)
def test_a_batch_of_one_small_image_trains(name, norm):
    torch.manual_seed(0)
    channels = 64 if "/" in name else 32
    detector = make(name, norm, channels=channels)
    detector.train()
    frozen = next((m for m in detector.modules() if isinstance(m, _BatchNorm)), None)
    if frozen is not None:
        frozen.eval()
    modes = [m.training for m in detector.modules()]
    found, images = losses(detector, 32)
    total = sum(found.values())
    total.backward()
    assert torch.isfinite(total)
    grads = [p.grad for p in detector.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(grad).all() for grad in grads)
    assert [m.training for m in detector.modules()] == modes
    assert not any(m._forward_pre_hooks for m in detector.modules() if isinstance(m, _BatchNorm))
    detector.eval()
    (detections,) = detector(images)
    assert torch.isfinite(detections.boxes).all()


@pytest.mark.parametrize("channels", [16, 32, 48])
@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_towers_with_norms_see_maps_of_one_cell(name, channels):
    detector = make(name, "bn", channels=channels, tower_norm=True).train()
    found, images = losses(detector, 24)
    assert torch.isfinite(sum(found.values()))
    detector.eval()(images)


def test_larger_images_use_the_statistics_of_the_batch():
    detector = make("retinanet", "bn").train()
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    losses(detector, 128)
    assert norms and all(int(norm.num_batches_tracked) == 1 for norm in norms)


def test_group_norm_is_torchs_and_of_one_value_its_bias():
    ours, theirs = GroupNorm(4, 8), nn.GroupNorm(4, 8)
    for norm in (ours, theirs):
        nn.init.constant_(norm.weight, 2.0)
        nn.init.constant_(norm.bias, 0.5)
    x = torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    one = GroupNorm(8, 8)
    nn.init.constant_(one.bias, 0.5)
    torch.testing.assert_close(
        one(torch.randn(1, 8, 1, 1)), torch.full((1, 8, 1, 1), 0.5), rtol=0, atol=1e-4
    )
