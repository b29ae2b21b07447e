"""The networks of papers that timm does not have, by the shapes that the papers draw."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from detzoo.nn import VGG16, Darknet24


def test_yolo_s_network_has_24_convolutions_and_7_cells_of_448_pixels():
    with torch.device("meta"):
        backbone = Darknet24()
        (x,) = backbone(torch.empty(1, 3, 448, 448))
    assert sum(isinstance(m, nn.Conv2d) for m in backbone.modules()) == 24
    assert x.shape == (1, 1024, 7, 7)
    assert backbone.channels == (1024,) and backbone.strides == (64,)


def test_vgg16_has_38_and_19_cells_of_300_pixels():
    with torch.device("meta"):
        maps = VGG16()(torch.empty(1, 3, 300, 300))
    assert [tuple(x.shape[1:]) for x in maps] == [(512, 38, 38), (1024, 19, 19)]


def test_the_convolutions_of_vgg16_are_vgg16_s():
    with torch.device("meta"):
        ours, theirs = VGG16(), vgg16(weights=None).features
    shapes = [m.weight.shape for m in ours.modules() if isinstance(m, nn.Conv2d)]
    assert shapes[:13] == [m.weight.shape for m in theirs if isinstance(m, nn.Conv2d)]


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"layers.0.0.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad\.pth is not a file of VGG16's weights"):
        VGG16(weights=tmp_path / "bad.pth")
